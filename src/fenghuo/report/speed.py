"""How long a model takes to answer real texts. Only the ledger asks.

Latency: one text a call, texts of the run's evaluation file, so that their lengths are real. Throughput: all
of them in one call, batched as the predictor likes it. Figures are kept beside the run under what they
depend on (file, texts, threads, machine, packages) with the sitting they were taken in, so that a ledger asked for
twice is quick.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from fenghuo import __version__
from fenghuo.config import build_recipe
from fenghuo.cores import usable_cores
from fenghuo.errors import DataError, DiskError, ModelError, UsageError
from fenghuo.progress import say
from fenghuo.report.lineage import Run
from fenghuo.report.stopwatch import Question, measure
from fenghuo.rundir import sha256_of, write_json
from fenghuo.rundir.environment import hardware
from fenghuo.serve.backends import FILES, BackendName
from fenghuo.serve.predictor import load_predictor
from fenghuo.tasks.read_data import read_rows
from fenghuo.tasks.recipe import DataRecipe

CACHE = ".ledger.json"
"""Hidden: the fingerprint of a run folder that serves as an input must not change when it is measured."""

TEXTS = 256
NOISY = 1.5
"""A spread above it is said, and such figures are not kept."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured of a run's model, and with how much."""

    p50_ms: float
    p95_ms: float
    texts_per_s: float
    calls: int
    spread: float
    texts: int
    threads: int
    backend: str
    sitting: str
    """Shared by models that took turns with each other: only their figures may be compared."""


def speeds(runs: Sequence[Run], *, threads: int | None = None) -> dict[Path, Speed]:
    """Speed of each run's model on the texts it was evaluated on.

    Kept figures are used where all of them come from one sitting; else all are timed again, in turns, since figures
    of different hours may not be compared.

    Args:
        threads: of one call; None takes the cores this process may use.

    Returns:
        Run folder → speed, without the runs whose model or texts cannot be read any more; the reason goes to
        the progress lines.
    """
    asked = threads or usable_cores()
    sitters = [sitter for run in runs if (sitter := _sitter(run, asked)) is not None]
    kept = {sitter.run.path: sitter.kept for sitter in sitters if sitter.kept is not None}
    if len(kept) == len(sitters) and len({speed.sitting for speed in kept.values()}) <= 1:
        return kept
    ready = []
    for sitter in sitters:
        try:
            predict = load_predictor(sitter.run.model, threads=asked)
            for text in sitter.texts:  # what it refuses is told before the clock runs for the others
                predict.ask(text)
            ready.append((sitter, predict))
        except UsageError as problem:
            say(f"{sitter.run.path}: not timed: {problem}")
    sitting = uuid4().hex
    say(f"timing {len(ready)} models in turns, {asked} threads")
    measured = measure([(predict, sitter.texts) for sitter, predict in ready])
    found = {}
    for (sitter, predict), times in zip(ready, measured, strict=True):
        speed = Speed(
            **asdict(times),
            texts=len(sitter.texts),
            threads=asked,
            backend=predict.backend,
            sitting=sitting,
        )
        found[sitter.run.path] = speed
        _keep(sitter, speed)
    return found


@dataclass(frozen=True)
class _Sitter:
    """A run to time, its texts, and what is known of it already."""

    run: Run
    texts: list[Question]
    key: str
    kept: Speed | None


def _sitter(run: Run, threads: int) -> _Sitter | None:
    try:
        texts = evaluated_texts(run)
        key = _key(run, texts, threads)
    except UsageError as problem:
        say(f"{run.path}: not timed: {problem}")
        return None
    values = _read_cache(run.path).get(key)
    kept = None
    with suppress(TypeError):  # another version's fields: measure again
        kept = Speed(**values) if isinstance(values, dict) else None
    return _Sitter(run, texts, key, kept)


def _keep(sitter: _Sitter, speed: Speed) -> None:
    if speed.spread > NOISY:
        say(
            f"{sitter.run.path}: rounds of timing differ by a factor of {speed.spread:.1f}: the machine is busy, "
            "and these figures are not kept"
        )
        return
    with suppress(DiskError):  # a run folder that may only be read is measured anew each time
        kept = {**_read_cache(sitter.run.path), sitter.key: asdict(speed)}
        write_json(sitter.run.path / CACHE, kept)


def answering_file(folder: Path) -> tuple[Path, BackendName] | None:
    """The file that answers when nobody says which, as the predictor chooses; None where there is none."""
    for name, file in FILES.items():
        if (folder / file).is_file():
            return folder / file, name
    return None


def bytes_on_disk(folder: Path) -> int | None:
    """Size of the file that answers, with the data that ONNX keeps beside a large one."""
    found = answering_file(folder)
    if found is None:
        return None
    beside = found[0].with_name(found[0].name + ".data")
    return found[0].stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def evaluated_texts(run: Run) -> list[Question]:
    """Up to `TEXTS` texts, evenly spaced over the file the run was evaluated on.

    Raises:
        DataError: the file is gone or cannot be read.
    """
    file, kind = run.text("examples_file"), run.text("task")
    if file is None or kind is None:
        raise DataError("its result names no evaluated file")
    rows = read_rows(Path(file), _data_recipe(run), kind=kind, labelled=False)
    count = min(TEXTS, len(rows))
    chosen = [rows[number * len(rows) // count] for number in range(count)]
    return [row.text if row.text_pair is None else (row.text, row.text_pair) for row in chosen]


def _data_recipe(run: Run) -> DataRecipe:
    """How the run read its rows; a run without the key reads by the file's name."""
    evaluate = run.recipe.get("evaluate")  # where a quantization has them
    values = run.recipe.get("data") or (evaluate.get("data") if isinstance(evaluate, dict) else None)
    return build_recipe(DataRecipe, values) if isinstance(values, dict) else DataRecipe()


def _key(run: Run, texts: Sequence[Question], threads: int) -> str:
    found = answering_file(run.model)
    if found is None:
        raise ModelError(f"{run.model}: no model in it")
    machine = hardware()
    package = "torch" if found[1] == "torch" else "onnxruntime"
    with suppress(PackageNotFoundError):
        package += f" {version(package)}"
    parts = [
        sha256_of(found[0])[:16],
        hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16],
        f"{threads} threads",
        f"fenghuo {__version__}",
        package,
        f"{machine['processor']} x {machine['cores']}",
        platform.node(),
    ]
    return "; ".join(map(str, parts))


def _read_cache(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        values = json.loads((folder / CACHE).read_bytes())
        return values if isinstance(values, dict) else {}
    return {}
