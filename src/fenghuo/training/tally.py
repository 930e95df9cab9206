"""What steps add up to between two lines of metrics.jsonl."""

from __future__ import annotations

from collections import defaultdict

from fenghuo.training.loop import Step

_SPENT = ("pieces", "s", "least_s", "steps")


class Tally:
    """Sums of steps' figures, their pieces and their time.

    Args:
        of_peak: whether it is known how long a step takes at the device's peak.
    """

    def __init__(self, *, of_peak: bool) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        """What a checkpoint keeps."""
        self._of_peak = of_peak

    def add(self, step: Step, least_s: float) -> None:
        """One more; `least_s`: the seconds it would have taken at the peak."""
        spent = (step.pieces, step.spent_s, least_s, 1)
        for name, value in (*step.figures.items(), *zip(_SPENT, spent, strict=True)):
            self.sums[name] += value

    def taken(self) -> dict[str, float]:
        """Means of the figures, and the speed; the next step begins anew."""
        pieces, spent_s, least_s, steps = (self.sums.pop(name) for name in _SPENT)
        means = {name: value / steps for name, value in self.sums.items()}
        self.sums.clear()
        return {**means, **self.speed(pieces, spent_s, least_s)}

    def speed(self, pieces: float, spent_s: float, least_s: float) -> dict[str, float]:
        """Pieces a second and, where it is known, the share of the peak."""
        spent_s = max(spent_s, 1e-9)
        return {
            "pieces_per_s": pieces / spent_s,
            **({"share_of_peak": least_s / spent_s} if self._of_peak else {}),
        }
