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
    ("static", "base", "dynamic masks against static ones"),
    ("large-adamw", "large-lamb", "LAMB against AdamW, four times the batch"),
    ("base", "lookahead", "with Lookahead against without"),
    ("scratch", "base", "pretrained against from scratch"),
)
SCRATCH = "scratch"
# Pseudo-perplexity hides one piece at a time, so that it favours no way of hiding; the loss is that of whole words.
HELDOUT = {"loss": "word loss", "pseudo_perplexity": "ln pseudo-perplexity", "mlm_accuracy": "piece accuracy"}
TASKS = {
    "reviews": "reviews: accuracy",
    "questions": "questions (test.txt learned, dev.txt asked): accuracy",
    "entities": "entities: F1",
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
        self.columns += list(TASKS.values())

    def __str__(self) -> str:
        return "\n".join([*self._reached(), "", *self._differences(), "", *self._costs()])

    def _reached(self) -> Iterator[str]:
        """One fine-tuning from each pretraining where there are several pretrainings."""
        yield f"| arm | {' | '.join(self.columns)} |"
        yield "|---" * (len(self.columns) + 1) + "|"
        for arm in [*self.seeds, SCRATCH]:
            cells = [_spread(self._alike(arm, figures).values()) for figures in self._row(arm)]
            yield f"| {arm} | {' | '.join(cells)} |"

    def _differences(self) -> Iterator[str]:
        yield f"| b against a | pretrainings | {' | '.join(self.columns)} |"
        yield "|---" * (len(self.columns) + 2) + "|"
        for a, b, title in COMPARISONS:
            several = all(len(self.seeds.get(arm, ())) > 1 for arm in (a, b))
            cells = [self._difference(a, b, *pair) for pair in zip(self._row(a), self._row(b), strict=True)]
            yield f"| {title} | {'3' if several else '1'} | {' | '.join(cells)} |"

    def _costs(self) -> Iterator[str]:
        path = self.out / "costs.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        hours = sum(json.loads(line)["cpu_s"] for line in lines) / 3600
        yield f"{len(lines)} processes, {hours:.2f} hours of processor time."

    def _row(self, arm: str) -> list[Figures]:
        return [
            *(self._heldout(arm, length, score) for length in self.lengths for score in HELDOUT),
            *(self._scores(arm, task) for task in TASKS),
        ]

    def _heldout(self, arm: str, length: int, score: str) -> Figures:
        found = {(seed, 0): self.out / f"{arm}-{seed}" / "lengths.json" for seed in self.seeds.get(arm, ())}
        values = {key: _read(path)[str(length)][score] for key, path in found.items() if path.exists()}
        return {key: math.log(x) if score == "pseudo_perplexity" else x for key, x in values.items()}

    def _scores(self, arm: str, task: str) -> Figures:
        found = {}
        for path in self.out.glob(f"{arm}-[0-9]-{task}-[0-9]/result.json"):
            *_, seed, _, tuned = path.parent.name.split("-")
            found[int(seed), int(tuned)] = 100 * float(_read(path)["value"])
        return found

    def _alike(self, arm: str, figures: Figures) -> Figures:
        """One figure a pretraining, where there are several pretrainings."""
        if len(self.seeds.get(arm, ())) < 2:
            return figures
        return {key: value for key, value in figures.items() if key[1] in (0, key[0])}

    def _difference(self, a: str, b: str, of_a: Figures, of_b: Figures) -> str:
        if a == SCRATCH:  # fine-tuning alone has a seed there
            of_b = {(0, tuned): value for (seed, tuned), value in of_b.items() if seed == 1}
        elif all(len(self.seeds[arm]) > 1 for arm in (a, b)):
            of_a, of_b = self._alike(a, of_a), self._alike(b, of_b)
        both = sorted(of_a.keys() & of_b.keys())
        if not both:
            return ""
        if len(both) == 1:
            return f"{of_b[both[0]] - of_a[both[0]]:+.3g}"
        found = paired_interval([of_a[key] for key in both], [of_b[key] for key in both])
        return f"{found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


def _spread(values: Any) -> str:
    if not (given := list(values)):
        return ""
    mean, deviation = mean_and_deviation(given)
    return f"{mean:.4g}" + (f" ± {deviation:.2g}" if len(given) > 1 else "")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
