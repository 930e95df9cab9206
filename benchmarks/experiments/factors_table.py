"""The tables of `pretraining_factors.py`: what each arm reached, and each factor's difference with its interval."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fenghuo.study.statistics import mean_and_deviation, paired_interval

COMPARISONS = (  # a, b, what b - a says
    ("absolute", "base", "relative positions against absolute ones"),
    ("pieces", "base", "whole words against pieces"),
    ("pieces", "spans", "spans against pieces"),
    ("base", "spans", "spans against whole words"),
    ("base", "nsp", "NSP against no sentence pairs"),
    ("base", "sop", "SOP against no sentence pairs"),
    ("nsp", "sop", "SOP against NSP"),
    ("static", "base", "dynamic masks against static ones"),
    ("large-adamw", "large-lamb", "LAMB against AdamW, four times the batch"),
    ("base", "lookahead", "with Lookahead against without"),
    ("scratch", "base", "pretrained against from scratch"),
)
_SCORES = ("mlm_accuracy", "loss", "pseudo_perplexity")
Figures = Mapping[tuple[int, int], float]  # by seed of pretraining and of fine-tuning


def table(out: Path, seeds: Mapping[str, Sequence[int]], tasks: Sequence[str], lengths: Sequence[int]) -> str:
    """All that is finished, in Markdown."""
    return "\n".join(
        [
            *_reached(out, seeds, tasks, lengths),
            "",
            *_differences(out, seeds, tasks, lengths),
            "",
            *_costs(out),
        ]
    )


def _reached(
    out: Path, seeds: Mapping[str, Sequence[int]], tasks: Sequence[str], lengths: Sequence[int]
) -> Iterator[str]:
    names = [f"{score} at {length}" for length in lengths for score in _SCORES] + list(tasks)
    yield "| arm | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for arm in [*seeds, "scratch"]:
        cells = [
            _spread(_heldout(out, arm, seeds.get(arm, ()), length, score).values())
            for length in lengths
            for score in _SCORES
        ]
        cells += [_spread(_scores(out, arm, task).values()) for task in tasks]
        yield f"| {arm} | " + " | ".join(cells) + " |"


def _differences(
    out: Path, seeds: Mapping[str, Sequence[int]], tasks: Sequence[str], lengths: Sequence[int]
) -> Iterator[str]:
    names = [f"{score} at {length}" for length in lengths for score in _SCORES[:2]] + list(tasks)
    yield "| b against a | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for a, b, title in COMPARISONS:
        pairs = [
            tuple(_heldout(out, arm, seeds.get(arm, ()), length, score) for arm in (a, b))
            for length in lengths
            for score in _SCORES[:2]
        ]
        pairs += [tuple(_scores(out, arm, task) for arm in (a, b)) for task in tasks]
        yield f"| {title} | " + " | ".join(_difference(*pair) for pair in pairs) + " |"


def _costs(out: Path) -> Iterator[str]:
    lines = [json.loads(line) for line in (out / "costs.jsonl").read_text(encoding="utf-8").splitlines()]
    hours = sum(line["cpu_s"] for line in lines) / 3600
    yield f"{len(lines)} processes, {hours:.2f} hours of processor time."


def _heldout(out: Path, arm: str, seeds: Sequence[int], length: int, score: str) -> Figures:
    found = {(seed, 0): out / f"{arm}-{seed}" / "lengths.json" for seed in seeds}
    return {key: _read(path)[str(length)][score] for key, path in found.items() if path.exists()}


def _scores(out: Path, arm: str, task: str) -> Figures:
    found = {}
    for path in out.glob(f"{arm}-[0-9]-{task}-[0-9]/result.json"):
        *_, seed, _, tuned = path.parent.name.split("-")
        # Weights as they are drawn have a seed of fine-tuning alone: they are paired with any pretraining's.
        found[int(seed), int(tuned)] = 100 * float(_read(path)["value"])
    return found


def _difference(a: Figures, b: Figures) -> str:
    if a and {seed for seed, _ in a} == {0} and {seed for seed, _ in b} != {0}:  # from scratch
        b = {(0, tuned): value for (seed, tuned), value in b.items() if seed == 1}
    both = sorted(a.keys() & b.keys())
    three = [key for key in both if key[0] == key[1] or key[1] == 0]
    if len({seed for seed, _ in three}) > 1:  # several pretrainings: one fine-tuning each
        both = three
    if not both:
        return ""
    if len(both) == 1:
        return f"{b[both[0]] - a[both[0]]:+.3g} (one run)"
    found = paired_interval([a[key] for key in both], [b[key] for key in both])
    mark = "**" if found.excludes_zero else ""
    return f"{mark}{found.mean:+.3g}{mark} [{found.low:+.3g}, {found.high:+.3g}]"


def _spread(values: Any) -> str:
    if not (given := list(values)):
        return ""
    mean, deviation = mean_and_deviation(given)
    return f"{mean:.4g}" + (f" ± {deviation:.2g}" if len(given) > 1 else "")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
