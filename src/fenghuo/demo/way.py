"""`fenghuo demo`: real text through every stage, ending with a ledger, a report and a model to serve."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fenghuo.corpus.read import read_documents
from fenghuo.demo.chains import run_chains, run_stage
from fenghuo.demo.data import DemoData, prepare
from fenghuo.demo.scale import SCALES, Scale
from fenghuo.demo.stages import KINDS, Stages
from fenghuo.errors import RunError, StoppedError
from fenghuo.progress import say, track
from fenghuo.rundir import RunDir, folder_atomic, write_json
from fenghuo.text.vocabulary import train_vocabulary

SPLIT_SEED = 1
METRICS = {"reviews": "accuracy", "ner": "f1"}
COMPARISONS = (
    ("pretrained against from scratch", "scratch", "teacher"),
    ("distilled against fine-tuned alone", "alone", "student"),
    ("with against without augmentation", "plain", "student"),
    ("int8 against fp32", "student", "int8"),
)
"""(in words, arm a, arm b): the interval is that of b - a."""


@dataclass(frozen=True, kw_only=True)
class Tellers:
    """What the end of the way is told with; the rooms beside this one, handed in by who calls."""

    compare: Callable[..., dict[str, Any]]
    """`study.statistics.compare`"""
    table: Callable[[Sequence[Path]], str]
    """Runs → the ledger as text."""
    write_report: Callable[[Sequence[Path], Path], None]
    """`report.page.write_report`"""
    write_page: Callable[[Path], None]
    """A run folder → its own `report.html`, nothing timed."""


def run(out: Path, scale: Literal["small", "full"], tellers: Tellers) -> None:
    """Run every stage that is not finished yet, then print the ledger and where everything is.

    Raises:
        MissingExtraError: the package with the text is not installed.
    """
    sizes, out = SCALES[scale], out.resolve()
    _one_scale(out, scale)
    began_s, cpu_before_s = time.perf_counter(), _cpu_s()
    try:
        _every_stage(out, sizes)
    except KeyboardInterrupt as problem:
        raise StoppedError(
            f"{_shown(out)}: stopped; finished stages stay, and the same command goes on"
        ) from problem
    finally:
        _note_time(out / "time.json", time.perf_counter() - began_s, _cpu_s() - cpu_before_s)
    _tell(out, sizes, tellers)


def _every_stage(out: Path, sizes: Scale) -> None:
    data = _data(out, sizes)
    _vocabulary(out / "vocabulary", data, sizes)
    stages = Stages(out, data, sizes)
    many = len(sizes.seeds) > 1
    line = list(stages.shared())
    if not many:
        line += [stage for task in KINDS for stage in stages.line(task, sizes.seeds[0])]
    for number, stage in enumerate(line, 1):
        run_stage(stage, out, f"[{number}/{len(line)}] ")
    if many:
        run_chains(stages.chains(), out)


def _tell(out: Path, sizes: Scale, tellers: Tellers) -> None:
    """The ledger, the report, the time, and how to serve the result."""
    first = sizes.seeds[0]
    _pages(out, tellers.write_page)
    runs = [out / name for name in _told(first)]
    study = [_study(out, sizes, tellers)] if len(sizes.seeds) > 1 else []
    table, report = tellers.table(runs), out / "report.html"
    tellers.write_report([*runs, *study], report)
    spent = json.loads((out / "time.json").read_text())
    wall_s, cpu_s = (sum(call[name] for call in spent) for name in ("wall_s", "cpu_s"))
    say(f"this took {wall_s / 60:.1f} minutes ({cpu_s / 60:.1f} of processor time) in {len(spent)} calls")
    print(table)
    print(f"\nreport   {_shown(report)}")
    print(f"serve    fenghuo serve {_shown(out / 'reviews' / f'seed-{first}' / 'int8' / 'model')}")


def _pages(out: Path, write_page: Callable[[Path], None]) -> None:
    """Each run's own page, where it has none yet."""
    runs = sorted(result.parent for result in out.rglob("result.json"))
    runs = [run for run in runs if not (run / "report.html").exists()]
    with track("pages", len(runs), "run") as bar:
        for run in runs:
            write_page(run)
            bar.advance(1)


def _one_scale(out: Path, scale: str) -> None:
    """A folder is made at one scale: another one splits the text anew, and what a model has read would be its test.

    Raises:
        RunError: the folder was made at another scale, or for something else.
    """
    mark = out / "demo.json"
    if mark.exists():
        before = json.loads(mark.read_text()).get("scale")
        if before != scale:
            raise RunError(f"{out}: made with --scale {before}; name another folder with --out")
    elif out.exists() and any(out.iterdir()):
        raise RunError(f"{out}: holds something other than a demo; name another folder with --out")
    else:
        write_json(mark, {"scale": scale})


def _data(out: Path, scale: Scale) -> DemoData:
    return prepare(
        out / "data",
        seed=SPLIT_SEED,
        reviews_train=scale.reviews_train,
        reviews_test=scale.reviews_test,
        reviews_dev=500,
        ner_train=scale.ner_train,
        ner_dev=500,
        ner_test=scale.ner_test,
    )


def _vocabulary(folder: Path, data: DemoData, scale: Scale) -> None:
    if (folder / "tokenizer.json").exists():
        return
    say(f"vocabulary: {scale.vocabulary:,} pieces from the text that models may read")
    documents = read_documents([str(data.newspaper), str(data.review_lines)])
    tokenizer = train_vocabulary((document.text for document in documents), size=scale.vocabulary)
    with folder_atomic(folder) as beside:
        tokenizer.save(beside)


def _told(seed: int) -> list[str]:
    """Runs of the ledger, in the line's order."""
    lines = [f"{task}/seed-{seed}/{step}" for task in KINDS for step in ("teacher", "student", "int8")]
    return ["pretrained", "student", *lines]


def _study(out: Path, scale: Scale, tellers: Tellers) -> Path:
    """`study.json`: every comparison over the paired seeds."""
    found = []
    for task in KINDS:
        for words, a, b in COMPARISONS:
            values = {
                arm: [RunDir.read_result(out / task / f"seed-{seed}" / arm)["value"] for seed in scale.seeds]
                for arm in (a, b)
            }
            found.append(tellers.compare(words, task=task, metric=METRICS[task], a=values[a], b=values[b]))
    write_json(out / "study.json", found)
    for one in found:
        say(
            f"{one['task']:8} {one['comparison']:36} {100 * one['mean_difference']:+.2f} points "
            f"[{100 * one['low']:+.2f}, {100 * one['high']:+.2f}]"
        )
    return out / "study.json"


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _note_time(path: Path, spent_s: float, cpu_s: float) -> None:
    """Add this call to the times kept: an interrupted demo takes several calls."""
    before: list[Any] = json.loads(path.read_text()) if path.exists() else []
    write_json(
        path, [*before, {"wall_s": round(spent_s, 1), "cpu_s": round(cpu_s, 1), "cores": os.cpu_count()}]
    )


def _shown(path: Path) -> str:
    """Relative to where the user stands, if it lies below."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
