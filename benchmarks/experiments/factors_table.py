"""The tables of `pretraining_factors.py`: what each arm reached, and each factor's difference with its interval.

.venv/bin/python benchmarks/experiments/factors_table.py docs/results/2026-11-23-pretraining-factors.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from factors_records import Record, read
from pretraining_factors import ARMS, SCRATCH

from fenghuo.study.statistics import mean_and_deviation, paired_interval

COMPARISONS = (  # a, b, what b - a says
    ("absolute", "base", "relative positions against absolute ones"),
    ("pieces", "base", "whole words against pieces"),
    ("pieces", "spans", "spans against pieces"),
    ("base", "spans", "spans against whole words"),
    ("base", "nsp", "NSP against no sentence pairs"),
    ("base", "sop", "SOP against no sentence pairs"),
    ("nsp", "sop", "SOP against NSP"),
    ("few-static", "few", "dynamic masks against one copy of static ones, a sixth of the text, 7.6 passes"),
    ("few", "base", "all of the text against a sixth of it, equal steps"),
    ("large-adamw", "large-lamb", "LAMB against AdamW, four times the batch"),
    ("base", "lookahead", "with Lookahead against without"),
    (SCRATCH, "base", "pretrained against from scratch, equal steps of fine-tuning"),
)
Figures = Mapping[int, float]  # by seed
View = Callable[[str, str], Figures]  # of an arm and a title


class Table:
    """Records as Markdown: held-out text, the tasks, and what it cost."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        found = {record.arm for record in records}
        self.arms = [arm for arm in (*ARMS, SCRATCH) if arm in found]

    def __str__(self) -> str:
        asked = [titles for is_tuned in (False, True) if (titles := self._titles(is_tuned))]
        tables = [table for titles in asked for table in (self._reached(titles), self._differences(titles))]
        return "\n\n".join(["\n".join(table) for table in tables] + [self._costs()])

    def by_pretraining(self, arm: str, title: str) -> Figures:
        """One figure of each pretraining: held-out text, or the fine-tuning with its own seed."""
        return {one.seed: one.figures[title] for one in self._of(arm, title) if one.tuned in (0, one.seed)}

    def by_finetuning(self, arm: str, title: str) -> Figures:
        """The fine-tunings of the first pretraining, or of none."""
        return {one.tuned: one.figures[title] for one in self._of(arm, title) if one.seed in (0, 1)}

    def _of(self, arm: str, title: str) -> Iterator[Record]:
        return (one for one in self.records if one.arm == arm and title in one.figures)

    def _titles(self, is_tuned: bool) -> list[str]:
        named = (title for one in self.records if one.is_tuned == is_tuned for title in one.figures)
        return list(dict.fromkeys(named))

    def _reached(self, titles: list[str]) -> Iterator[str]:
        yield from _head("arm", "over", *titles)
        for arm in self.arms:
            for of, view in self._views(titles, arm):
                yield _row(arm, of, *(_spread(view(arm, title).values()) for title in titles))

    def _differences(self, titles: list[str]) -> Iterator[str]:
        yield from _head("b against a", "interval over", *titles)
        for a, b, meaning in COMPARISONS:
            for of, view in self._views(titles, a, b)[:1]:
                yield _row(meaning, of, *(_difference(view(a, title), view(b, title)) for title in titles))

    def _views(self, titles: list[str], *arms: str) -> list[tuple[str, View]]:
        """How these arms can be looked at: over several pretrainings first, or over fine-tunings of one."""
        views = {"pretrainings": self.by_pretraining, "fine-tunings of one": self.by_finetuning}
        counts = {of: min(len(view(arm, titles[0])) for arm in arms) for of, view in views.items()}
        several = [(of, view) for of, view in views.items() if counts[of] > 1]
        return several or [("none, one run", view) for of, view in views.items() if counts[of] == 1][:1]

    def _costs(self) -> str:
        runs = [one for one in self.records if one.arm]
        tuned = sum(one.is_tuned for one in runs)
        hours = sum(one.cpu_s for one in self.records) / 3600
        return f"{len(runs) - tuned} pretrainings, {tuned} fine-tunings, {hours:.2f} hours of processor time."


def _difference(a: Figures, b: Figures) -> str:
    both = sorted(a.keys() & b.keys())
    if len(both) < 2:
        return "".join(f"{b[key] - a[key]:+.3g}" for key in both)
    found = paired_interval([a[key] for key in both], [b[key] for key in both])
    return f"{found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


def _spread(values: Iterable[float]) -> str:
    given = list(values)
    if len(given) < 2:
        return "".join(f"{value:.4g}" for value in given)
    mean, deviation = mean_and_deviation(given)
    return f"{mean:.4g} ± {deviation:.2g}"


def _head(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield "|---" * len(titles) + "|"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(Table(read(Path(sys.argv[1]))))
