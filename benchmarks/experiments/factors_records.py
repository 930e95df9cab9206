"""What `pretraining_factors.py` measured, an object of JSON a line: it stays when the runs, gigabytes, are gone.

.venv/bin/python benchmarks/experiments/factors_records.py runs/factors FILE.jsonl
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fenghuo.rundir import write_atomic
from fenghuo.rundir.metrics import Metrics

# Each favours an arm: loss and accuracy hide whole words as the base does, pseudo-perplexity a piece as `pieces` does.
HELDOUT: dict[str, tuple[str, Callable[[float], float]]] = {
    "loss": ("word loss, nats, at {}", float),
    "pseudo_perplexity": ("ln pseudo-perplexity, nats, at {}", math.log),
    "mlm_accuracy": ("accuracy of pieces in hidden words, %, at {}", lambda share: 100 * share),
}
SCORES = {  # what is read of a fine-tuning: where it is written, and its name
    "reviews": {"result.json": "reviews, accuracy, %", "short.json": "short reviews, accuracy, %"},
    "questions": {"result.json": "questions, accuracy, %"},
    "entities": {"result.json": "entities, F1, %"},
}


@dataclass(frozen=True)
class Record:
    """A finished run, or a part of the preparation (without an arm)."""

    run: str
    cpu_s: float
    """Of all its processes, seconds; a process whose driver was killed is not in it."""
    arm: str = ""
    seed: int = 0
    """Of the pretraining; 0: none."""
    tuned: int = 0
    """Seed of the fine-tuning; 0: this is a pretraining."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """By title."""
    curve: Sequence[tuple[float, float]] = ()
    """Millions of pieces seen, and the loss of what `mlm` hides in held-out text then, in nats. The questions are
    drawn by the seed and are of the arm's own kind, unlike those of `figures`."""

    @property
    def is_tuned(self) -> bool:
        """Whether this is a fine-tuning."""
        return self.tuned > 0


def collect(out: Path) -> list[Record]:
    """The runs that are finished in a folder of the experiment, pretrainings first."""
    spent: dict[str, float] = {}
    for line in _lines(out / "costs.jsonl"):
        spent[line["run"]] = spent.get(line["run"], 0.0) + line["cpu_s"]
    found = [_record(out / run, cpu_s) for run, cpu_s in spent.items()]
    return sorted((one for one in found if one), key=lambda one: one.is_tuned)


def write(records: Iterable[Record]) -> str:
    """Lines of a file."""
    return "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)


def read(path: Path) -> list[Record]:
    """The records of a file."""
    return [Record(**line) for line in _lines(path)]


def _record(run: Path, cpu_s: float) -> Record | None:
    told = {"run": run.name, "cpu_s": round(cpu_s, 1)}
    match run.name.split("-"):
        case [*arm, seed, task, tuned] if task in SCORES:
            if not (run / "result.json").exists():
                return None
            files = {run / name: title for name, title in SCORES[task].items()}
            figures = {title: _percent(path) for path, title in files.items() if path.exists()}
            return Record(**told, arm="-".join(arm), seed=int(seed), tuned=int(tuned), figures=figures)
        case [*arm, seed] if seed.isdigit():
            if not (path := run / "lengths.json").exists():
                return None
            figures = dict(_heldout(json.loads(path.read_text(encoding="utf-8"))))
            return Record(**told, arm="-".join(arm), seed=int(seed), figures=figures, curve=_curve(run))
    return Record(**told)


def _heldout(by_length: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    for length, figures in by_length.items():
        for name, (title, in_unit) in HELDOUT.items():
            yield title.format(length), in_unit(figures[name])


def _percent(path: Path) -> float:
    told = json.loads(path.read_text(encoding="utf-8"))
    return 100 * float(told["value"] if "value" in told else told["metrics"]["accuracy"])


def _curve(run: Path) -> list[tuple[float, float]]:
    batch = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["batch"]["pieces"]
    told = (
        (line["step"], line.get("heldout/mlm", line.get("heldout/loss")))
        for line in Metrics(run / "metrics.jsonl").read()
    )
    return [(step * batch / 1e6, loss) for step, loss in told if loss is not None]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    write_atomic(Path(sys.argv[2]), write(collect(Path(sys.argv[1]))))
