"""Losses that must not be learned from: no number, or far above those before."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

WINDOW = 100
"""Steps whose median a jump is told by."""
ENOUGH = 20
"""Steps before which nothing is called a jump: at the start the loss falls steeply."""


def no_number(loss: float, grad_norm: float, asked: Iterable[str] = ()) -> str | None:
    """Why a step must not be taken that has no finite loss or gradient; None for any other."""
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return None
    return f"loss {loss}, gradient norm {grad_norm}"


class Watch:
    """The losses of the last steps, and what is wrong with the next one.

    A jump is a loss of more than `factor` times their median and more than 1 above it: a small loss may well be
    several times another one. Where steps ask different things, each is compared with those that asked the same: a
    question that is asked seldom raises the loss by its own.
    """

    def __init__(self, factor: float | None) -> None:
        self.factor = factor
        self.recent: dict[str, list[float]] = {}
        """Oldest first, by what was asked; a checkpoint keeps them."""

    def judge(self, loss: float, grad_norm: float, asked: Iterable[str] = ()) -> str | None:
        """Why the step must not be taken; None for one that may be, whose loss counts from now on."""
        if (why := no_number(loss, grad_norm)) is not None:
            return why
        recent = self.recent.setdefault(" ".join(sorted(asked)), [])
        if self.factor is not None and len(recent) >= ENOUGH:
            median = statistics.median(recent)
            if loss > max(self.factor * median, median + 1):
                return f"loss {loss:.4g}, where the median of the last {len(recent)} is {median:.4g}"
        recent.append(loss)
        del recent[:-WINDOW]
        return None
