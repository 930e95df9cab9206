"""Times models against each other: in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

Question = str | tuple[str, str]
Predict = Callable[[Sequence[Any]], Any]

ROUNDS = 4
CALLS_A_ROUND = 64
FEWEST_CALLS_A_ROUND = 5
WARM_UP_CALLS = 12
LIMIT_S = 30.0
"""For a model's single calls, and again for its calls with all texts; a slow one is asked less often."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """What was measured of one model."""

    p50_ms: float
    """Median of single calls."""
    p95_ms: float
    texts_per_s: float
    """All texts in one call, median of the rounds."""
    calls: int
    spread: float
    """Slowest over fastest median of a round; far above 1, the machine had other things to do."""


@dataclass
class _Timed:
    predict: Predict
    texts: Sequence[Question]
    singles_s: list[list[float]] = field(default_factory=list)
    """Of each round."""
    passes_s: list[float] = field(default_factory=list)


def measure(models: Sequence[tuple[Predict, Sequence[Question]]]) -> list[Times]:
    """Time each model on its texts, single calls and calls with all texts.

    Args:
        models: what answers a list of texts, and at least one text; texts are used in turn, each round with
            others from all over the list.
    """
    timed = [_Timed(predict, texts) for predict, texts in models]
    for one in timed:
        longest = sorted(one.texts, key=_length, reverse=True)[
            :2
        ]  # so that memory is taken before the clock runs
        for text in islice(cycle([*longest, *one.texts]), WARM_UP_CALLS):
            one.predict([text])
    for number in range(ROUNDS):
        for one in timed:
            one.singles_s.append(_singles(one, number))
        for one in timed:
            if sum(one.passes_s) < LIMIT_S:
                before_s = time.perf_counter()
                one.predict(one.texts)
                one.passes_s.append(time.perf_counter() - before_s)
    return [_times(one) for one in timed]


def _singles(one: _Timed, number: int) -> list[float]:
    taken_s: list[float] = []
    texts = one.texts[number::ROUNDS] or one.texts
    for text in islice(cycle(texts), CALLS_A_ROUND):
        before_s = time.perf_counter()
        one.predict([text])
        taken_s.append(time.perf_counter() - before_s)
        if len(taken_s) >= FEWEST_CALLS_A_ROUND and sum(taken_s) > LIMIT_S / ROUNDS:
            break
    return taken_s


def _times(one: _Timed) -> Times:
    every_s = [taken_s for a_round in one.singles_s for taken_s in a_round]
    medians_s = [statistics.median(a_round) for a_round in one.singles_s]
    return Times(
        p50_ms=round(1000 * statistics.median(every_s), 3),
        p95_ms=round(1000 * statistics.quantiles(every_s, n=100, method="inclusive")[94], 3),
        texts_per_s=round(len(one.texts) / statistics.median(one.passes_s), 1),
        calls=len(every_s),
        spread=round(max(medians_s) / min(medians_s), 2),
    )


def _length(text: Question) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
