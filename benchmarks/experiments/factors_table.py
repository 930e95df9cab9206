"""The tables of `pretraining_factors.py`: what each arm reached, and each factor's difference with its interval."""

from __future__ import annotations

import json
import math
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
    ("few-static", "few", "dynamic masks against static ones, a sixth of the text"),
    ("few", "base", "all of the text against a sixth of it"),
    ("large-adamw", "large-lamb", "LAMB against AdamW, four times the batch"),
    ("base", "lookahead", "with Lookahead against without"),
    ("scratch", "base", "pretrained against from scratch"),
)
SCRATCH = "scratch"
# Each favours an arm: the loss hides whole words, as the base does, and pseudo-perplexity a piece, as `pieces` does.
HELDOUT = {"loss": "word loss", "pseudo_perplexity": "ln pseudo-perplexity", "mlm_accuracy": "piece accuracy"}
SCORES = {  # what is written of a fine-tuning, and where
    "reviews: accuracy": ("reviews", "result.json"),
    "short reviews: accuracy": ("reviews", "short.json"),
    "questions (test.txt learned, dev.txt asked): accuracy": ("questions", "result.json"),
    "entities: F1": ("entities", "result.json"),
}
Figures = Mapping[tuple[int, int], float]  # by seed of pretraining and of fine-tuning


class Table:
    """What stands in the folder of runs so far, as Markdown.

    Args:
        seeds: of pretraining, by arm.
        lengths: at which held-out text was read.
    """

    def __init__(self, out: Path, seeds: Mapping[str, Sequence[int]], lengths: Sequence[int]) -> None:
        self.out, self.seeds, self.lengths = out, seeds, lengths
        self.columns = [f"{title} at {length}" for length in lengths for title in HELDOUT.values()]
        self.columns += SCORES

    def __str__(self) -> str:
        return "\n".join([*self._reached(), "", *self._differences(), "", *self._costs()])

    def _reached(self) -> Iterator[str]:
        """A row over an arm's pretrainings, and one over the fine-tunings of its first, where it has several."""
        yield f"| arm | of | {' | '.join(self.columns)} |"
        yield "|---" * (len(self.columns) + 2) + "|"
        for arm in [*self.seeds, SCRATCH]:
            row = self._row(arm)
            if len(self.seeds.get(arm, ())) > 1:
                cells = [_spread(_by_pretraining(figures).values()) for figures in row]
                yield f"| {arm} | pretrainings | {' | '.join(cells)} |"
            if any(len(_by_finetuning(figures)) > 1 for figures in row):
                cells = [_spread(_by_finetuning(figures).values()) for figures in row]
                yield f"| {arm} | fine-tunings | {' | '.join(cells)} |"

    def _differences(self) -> Iterator[str]:
        yield f"| b against a | interval of | {' | '.join(self.columns)} |"
        yield "|---" * (len(self.columns) + 2) + "|"
        for a, b, title in COMPARISONS:
            cells = [self._difference(a, b, *pair) for pair in zip(self._row(a), self._row(b), strict=True)]
            of = "pretrainings" if self._are_several(a, b) else "fine-tunings"
            yield f"| {title} | {of} | {' | '.join(cells)} |"

    def _costs(self) -> Iterator[str]:
        path = self.out / "costs.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        hours = sum(json.loads(line)["cpu_s"] for line in lines) / 3600
        yield f"{len(lines)} processes, {hours:.2f} hours of processor time."

    def _row(self, arm: str) -> list[Figures]:
        return [
            *(self._heldout(arm, length, score) for length in self.lengths for score in HELDOUT),
            *(self._scores(arm, *where) for where in SCORES.values()),
        ]

    def _heldout(self, arm: str, length: int, score: str) -> Figures:
        found = {(seed, 0): self.out / f"{arm}-{seed}" / "lengths.json" for seed in self.seeds.get(arm, ())}
        values = {key: _read(path)[str(length)][score] for key, path in found.items() if path.exists()}
        return {key: math.log(x) if score == "pseudo_perplexity" else x for key, x in values.items()}

    def _scores(self, arm: str, task: str, file: str) -> Figures:
        found = {}
        for path in self.out.glob(f"{arm}-[0-9]-{task}-[0-9]/{file}"):
            *_, seed, _, tuned = path.parent.name.split("-")
            told = _read(path)
            found[int(seed), int(tuned)] = 100 * float(
                told.get("value", told.get("metrics", {}).get("accuracy"))
            )
        return found

    def _are_several(self, *arms: str) -> bool:
        return all(len(self.seeds.get(arm, ())) > 1 for arm in arms)

    def _difference(self, a: str, b: str, of_a: Figures, of_b: Figures) -> str:
        alike = _by_pretraining if self._are_several(a, b) else _by_finetuning
        by_a, by_b = alike(of_a), alike(of_b)
        both = sorted(by_a.keys() & by_b.keys())
        if not both:
            return ""
        if len(both) == 1:
            return f"{by_b[both[0]] - by_a[both[0]]:+.3g}"
        found = paired_interval([by_a[key] for key in both], [by_b[key] for key in both])
        return f"{found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


def _by_pretraining(figures: Figures) -> dict[int, float]:
    """One figure of each: held-out text, or the fine-tuning with its own seed."""
    return {seed: value for (seed, tuned), value in figures.items() if tuned in (0, seed)}


def _by_finetuning(figures: Figures) -> dict[int, float]:
    """Of the first pretraining, or of none."""
    return {tuned: value for (seed, tuned), value in figures.items() if seed in (0, 1)}


def _spread(values: Any) -> str:
    if not (given := list(values)):
        return ""
    mean, deviation = mean_and_deviation(given)
    return f"{mean:.4g}" + (f" ± {deviation:.2g}" if len(given) > 1 else "")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
