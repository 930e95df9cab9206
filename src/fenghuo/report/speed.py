"""How long a model takes to answer real texts. Only the ledger asks.

Latency: one text a call, the texts of the run's evaluation file, so that their lengths are real. Throughput:
all of them in one call, batched as the predictor likes it. Figures are kept beside the run under what they
depend on (file, texts, threads, machine, packages), so that a ledger asked for twice is quick.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from fenghuo.config import build_recipe
from fenghuo.errors import DataError, DiskError, ModelError, UsageError
from fenghuo.progress import say
from fenghuo.report.lineage import Run
from fenghuo.rundir import sha256_of, write_json
from fenghuo.rundir.environment import hardware
from fenghuo.serve.backends import FILES, BackendName, usable_cores
from fenghuo.serve.predictor import load_predictor
from fenghuo.tasks.read_data import read_rows
from fenghuo.tasks.recipe import DataRecipe

CACHE = ".ledger.json"
"""Hidden: the fingerprint of a run folder that serves as an input must not change when it is measured."""

TEXTS = 256
CALLS = 256
WARM_UP_CALLS = 12
LIMIT_S = 30.0
"""Of the timed single calls; at least `FEWEST_CALLS` are made however slow the model is."""
FEWEST_CALLS = 20
PASSES = 3
"""Of all texts at once; the median counts."""

Question = str | tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured, and with how much."""

    p50_ms: float
    p95_ms: float
    texts_per_s: float
    backend: str
    threads: int
    calls: int
    texts: int


def measure(predict: Callable[[Sequence[Any]], Any], texts: Sequence[Question]) -> dict[str, float]:
    """Time single calls (p50 and p95, ms) and calls with all texts (texts/s).

    Args:
        predict: takes a list of texts.
        texts: at least one; used in turn.
    """
    longest = sorted(texts, key=_length, reverse=True)[:2]  # memory for them is taken before the clock runs
    for text in islice(cycle([*longest, *texts]), WARM_UP_CALLS):
        predict([text])
    taken_s: list[float] = []
    began_s = time.perf_counter()
    for text in islice(cycle(texts), CALLS):
        before_s = time.perf_counter()
        predict([text])
        taken_s.append(time.perf_counter() - before_s)
        if len(taken_s) >= FEWEST_CALLS and time.perf_counter() - began_s > LIMIT_S:
            break
    passes_s = []
    for _ in range(PASSES):
        before_s = time.perf_counter()
        predict(texts)
        passes_s.append(time.perf_counter() - before_s)
    percentiles = statistics.quantiles(taken_s, n=100, method="inclusive")
    return {
        "p50_ms": 1000 * statistics.median(taken_s),
        "p95_ms": 1000 * percentiles[94],
        "texts_per_s": len(texts) / statistics.median(passes_s),
        "calls": len(taken_s),
    }


def speed_of(run: Run, *, threads: int | None = None) -> Speed | None:
    """The speed of a run's model on its evaluated texts: kept figures where they still hold, else measured.

    Args:
        threads: of one call; None takes the cores this process may use.

    Returns:
        None where the model or its texts cannot be read any more; the reason goes to the progress lines.
    """
    asked = threads or usable_cores()
    try:
        texts = evaluated_texts(run)
        key = _key(run, texts, asked)
    except UsageError as problem:
        say(f"{run.path}: not timed: {problem}")
        return None
    kept = _read_cache(run.path)
    if key in kept:
        with suppress(TypeError):  # another version's fields: measure again
            return Speed(**kept[key])
    say(f"{run.path}: timing {len(texts)} texts, {asked} threads")
    try:
        predict = load_predictor(run.model, threads=asked)
    except UsageError as problem:
        say(f"{run.path}: not timed: {problem}")
        return None
    figures = measure(predict, texts)
    speed = Speed(
        p50_ms=round(figures["p50_ms"], 3),
        p95_ms=round(figures["p95_ms"], 3),
        texts_per_s=round(figures["texts_per_s"], 1),
        backend=predict.backend,
        threads=asked,
        calls=int(figures["calls"]),
        texts=len(texts),
    )
    with suppress(DiskError):  # a run folder that may only be read is measured anew each time
        write_json(run.path / CACHE, {**kept, key: asdict(speed)})
    return speed


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
    step = max(1, len(rows) // TEXTS)
    chosen = rows[::step][:TEXTS]
    return [row.text if row.text_pair is None else (row.text, row.text_pair) for row in chosen]


def _data_recipe(run: Run) -> DataRecipe:
    """How the run read its rows; a run without the key reads by the file's name."""
    evaluate = run.recipe.get("evaluate")  # where a quantization has them
    values = run.recipe.get("data") or (evaluate.get("data") if isinstance(evaluate, dict) else None)
    return build_recipe(DataRecipe, values) if isinstance(values, dict) else DataRecipe()


def _length(text: Question) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


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
