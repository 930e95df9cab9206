"""What steps add up to between two lines of metrics.jsonl."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from fenghuo.training.loop import Step

_SPENT = ("pieces", "s", "least_s")


class Tally:
    """Sums of steps' figures, their pieces and their time.

    Args:
        of_peak: whether it is known how long a step takes at the device's peak.
    """

    def __init__(self, *, of_peak: bool) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._steps: dict[str, int] = defaultdict(int)  # that have the figure: not every step asks everything
        self._of_peak = of_peak

    def add(self, step: Step, least_s: float) -> None:
        """One more; `least_s`: the seconds it would have taken at the peak."""
        for name, value in (
            *step.figures.items(),
            *zip(_SPENT, (step.pieces, step.spent_s, least_s), strict=True),
        ):
            self._sums[name] += value
            self._steps[name] += 1

    def taken(self) -> dict[str, float]:
        """Mean of each figure over the steps that have it, and the speed; the next step begins anew."""
        pieces, spent_s, least_s = (self._sums.pop(name) for name in _SPENT)
        means = {name: value / self._steps[name] for name, value in self._sums.items()}
        self._sums.clear()
        self._steps.clear()
        return {**means, **self.speed(pieces, spent_s, least_s)}

    def speed(self, pieces: float, spent_s: float, least_s: float) -> dict[str, float]:
        """Pieces a second and, where it is known, the share of the peak."""
        spent_s = max(spent_s, 1e-9)
        share = {"share_of_peak": least_s / spent_s} if self._of_peak else {}
        return {"pieces_per_s": pieces / spent_s, **share}

    def to_json(self) -> dict[str, Mapping[str, float]]:
        """What a checkpoint keeps."""
        return {"sums": self._sums, "steps": self._steps}

    def restore(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """Go on from a checkpoint's."""
        self._sums.update(values["sums"])
        self._steps.update({name: int(steps) for name, steps in values["steps"].items()})
