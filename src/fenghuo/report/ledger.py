"""The ledger: what each step of a line cost, and what it kept.

One row a run. `drop` is in points of the main metric (hundredths of accuracy or F1) against the teacher of
the run's line, which itself has drop 0; a run without a teacher has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fenghuo.cores import usable_cores
from fenghuo.errors import GateError, RunError
from fenghuo.progress import say
from fenghuo.report.lineage import Lineage, Run, read_runs
from fenghuo.report.speed import Speed, answering_file, bytes_on_disk, speeds
from fenghuo.report.table import Column, aligned


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run. What a run has no figure for is None."""

    run: str
    role: str
    """teacher, student, quantized, finetuned, pretrained, …"""
    model: str
    """Family, layers x width, and what computes it where that is not torch."""
    task: str | None
    metric: str | None
    value: float | None
    """Of the metric, as the run evaluated it."""
    drop: float | None
    """Points of the metric lost against the line's teacher; negative is a gain."""
    parameters: int | None
    bytes: int | None
    """On disk, of the file that answers."""
    p50_ms: float | None
    """Latency of one text a call: median."""
    p95_ms: float | None
    texts_per_s: float | None
    speedup: float | None
    """The teacher's p50 over this p50."""


def ledger(paths: Sequence[Path], *, threads: int | None = None, measure: bool = True) -> list[Row]:
    """Read finished runs and time those that answer a task.

    Args:
        paths: run folders; those without a metric (a corpus, an augmentation) are left out.
        threads: of the timed calls; None takes the cores this process may use.
        measure: False leaves the timed columns empty.

    Raises:
        RunError: not a finished run, or no run with a metric among them.
    """
    runs = [run for run in read_runs(paths) if _has_figures(run)]
    if not runs:
        raise RunError(
            "none of these runs has a metric: give runs of pretrain, finetune, distill or quantize"
        )
    lineage = Lineage(runs)
    teachers = {run.path: lineage.teacher(run) for run in runs}
    tops = {teacher.path.resolve() for teacher in teachers.values() if teacher is not None}
    # A teacher that was not named is timed too: it is what the others are faster than.
    answering = {run.path: run for run in [*runs, *teachers.values()] if run is not None and run.answers}
    timed = speeds(list(answering.values()), threads=threads) if measure else {}
    rows = []
    for run in runs:
        is_teacher = run.path.resolve() in tops
        if teachers[run.path] is None and run.answers:
            for problem in lineage.problems(run):
                say(f"{run.path}: no drop: {problem}")
        rows.append(_row(run, run if is_teacher else teachers[run.path], is_teacher, timed))
    return rows


def _has_figures(run: Run) -> bool:
    if run.text("metric") is None:
        say(f"{run.path}: left out, its result has no metric")
        return False
    return True


def _row(run: Run, teacher: Run | None, is_teacher: bool, timed: Mapping[Path, Speed]) -> Row:
    speed = timed.get(run.path)
    base = None if teacher is None else timed.get(teacher.path)
    parameters = run.number("parameters")
    return Row(
        run=str(run.path),
        role="teacher" if is_teacher and run.text("role") == "finetuned" else run.text("role") or "model",
        model=model_name(run.model),
        task=run.text("task"),
        metric=run.text("metric"),
        value=run.number("value"),
        drop=None if teacher is None else _drop(run.number("value"), teacher.number("value")),
        parameters=None if parameters is None else int(parameters),
        bytes=bytes_on_disk(run.model),
        p50_ms=None if speed is None else speed.p50_ms,
        p95_ms=None if speed is None else speed.p95_ms,
        texts_per_s=None if speed is None else speed.texts_per_s,
        speedup=None if speed is None or base is None else round(base.p50_ms / speed.p50_ms, 2),
    )


def _drop(value: float | None, reference: float | None) -> float | None:
    if value is None or reference is None:
        return None
    return round(100 * (reference - value), 4) + 0.0  # never -0.0


def model_name(folder: Path) -> str:
    """Such as `nezha 4x312 int8`; the folder's name where it has no configuration."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        layers, width = config["num_hidden_layers"], config["hidden_size"]
        name = f"{config['model_type']} {layers}x{width}"
    except (OSError, ValueError, KeyError, TypeError):
        return folder.parent.name
    found = answering_file(folder)
    return name if found is None or found[1] == "torch" else f"{name} {found[1]}"


MADE_SMALLER = ("student", "quantized", "pruned")
"""Roles that have a teacher somewhere."""


def gate(rows: Sequence[Row], max_drop: float) -> None:
    """Pass where every row that was made smaller is known to have lost at most `max_drop` points.

    Raises:
        GateError: names the rows that lost more, and those of which nobody can tell, because their figure or
            their teacher is missing; and where no row has a teacher: a gate must not pass for want of
            something to compare.
    """
    failed = [f"{row.run} ({row.role}, {row.task}): {_loss(row)}" for row in rows if _fails(row, max_drop)]
    if failed:
        raise GateError("\n  ".join([f"not within {max_drop:g} points of the teacher:", *failed]))
    if all(row.drop is None or row.role == "teacher" for row in rows):
        raise GateError("none of these runs has a teacher to be compared with")


def _fails(row: Row, max_drop: float) -> bool:
    if row.drop is None:
        return row.role in MADE_SMALLER
    return math.isnan(row.drop) or row.drop > max_drop


def _loss(row: Row) -> str:
    if row.value is None:
        return f"{row.metric} is missing"
    if row.drop is None:
        return f"{row.metric} {row.value:.4f}, and no teacher that was evaluated alike was found"
    return f"{row.metric} {row.value:.4f}, drop {row.drop:.2f} points"


def to_json(rows: Sequence[Row]) -> str:
    """A JSON list of objects with the fields of `Row`, in their order."""
    return json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=2)


def render(rows: Sequence[Row], *, threads: int | None = None) -> str:
    """The ledger as aligned text, with a line below that says how it was measured."""
    columns = [Column(title, right) for title, right in TITLES]
    table = aligned(columns, [cells(row) for row in rows])
    if all(row.p50_ms is None for row in rows):
        return table
    return f"{table}\n\n{footnote(threads)}"


TITLES = (
    ("run", False),
    ("role", False),
    ("model", False),
    ("task", False),
    ("metric", False),
    ("value", True),
    ("drop", True),
    ("parameters", True),
    ("size", True),
    ("p50 ms", True),
    ("p95 ms", True),
    ("texts/s", True),
    ("speed-up", True),
)
"""Columns of the ledger for people: title, and whether it is a number."""


def cells(row: Row) -> list[str]:
    """A row's fields as people read them, in the order of `TITLES`."""
    return [
        _shown(row.run),
        row.role,
        row.model,
        row.task or "",
        row.metric or "",
        _number(row.value, ".4f"),
        _number(row.drop, "+.2f") if row.drop else _number(row.drop, ".2f"),
        _scaled(row.parameters, 1000, ("", "K", "M", "G")),
        _scaled(row.bytes, 1000, ("B", "KB", "MB", "GB")),
        _number(row.p50_ms, ",.2f"),
        _number(row.p95_ms, ",.2f"),
        _number(row.texts_per_s, ",.0f"),
        "" if row.speedup is None else f"{row.speedup:.2f}x",
    ]


def _shown(path: str) -> str:
    """From where the user stands, if it lies below."""
    whole, here = Path(path).absolute(), Path.cwd()
    return str(whole.relative_to(here)) if here in whole.parents else path


def footnote(threads: int | None = None) -> str:
    """How the timed columns came about."""
    return (
        "drop: points of the metric lost against the teacher. p50, p95: one text a call, "
        f"{threads or usable_cores()} threads, real texts of the evaluation file.\n"
        "texts/s: all of them at once. speed-up: p50 of the teacher over p50."
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _scaled(value: int | None, base: int, units: tuple[str, ...]) -> str:
    if value is None:
        return ""
    power = 0
    scaled = float(value)
    while scaled >= base and power < len(units) - 1:
        scaled /= base
        power += 1
    return f"{scaled:.1f} {units[power]}".strip() if power else f"{value} {units[0]}".strip()
