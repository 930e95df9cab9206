"""Means and intervals over seeds.

Seeds are paired: run k of one arm and run k of the other share everything that is drawn from the seed, so
the difference is taken run by run, and what both arms owe to luck cancels. "Beats" means that the 95 %
interval of the mean difference excludes zero.

scipy comes with scikit-learn, which the extra `train` asks for.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fenghuo.errors import DataError, MissingExtraError


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, and where the true one lies with the stated confidence."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is more than luck."""
        return self.low > 0 or self.high < 0


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the deviation of one value is 0.

    Raises:
        DataError: no values, or one that is not a finite number.
    """
    _check(values)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def paired_interval(a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Mean of b - a with its t interval: mean ± t(n - 1) * s / sqrt(n), s the deviation of the differences.

    Few seeds make wide intervals, as they should: with 5 of them t is 2.78. Differences that are all the same
    give an interval of no width.

    Args:
        a, b: one value a seed, in the same order of seeds.

    Raises:
        DataError: other numbers of values, fewer than two, or one that is not finite.
    """
    differences = _differences(a, b)
    n = len(differences)
    if n < 2:
        raise DataError("an interval needs at least two pairs; add seeds")
    mean, deviation = mean_and_deviation(differences)
    half = _t_quantile(0.5 + confidence / 2, n - 1) * deviation / math.sqrt(n)
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


def compare(
    comparison: str, *, task: str, metric: str, a: Sequence[float], b: Sequence[float]
) -> dict[str, Any]:
    """One entry of `study.json`: is b better than a?

    Args:
        comparison: in words, such as "pretrained against from scratch" (b against a).
        metric: name; higher is better.

    Returns:
        `comparison, task, metric, mean_difference, low, high, n, values_a, values_b`.
    """
    interval = paired_interval(a, b)
    return {
        "comparison": comparison,
        "task": task,
        "metric": metric,
        "mean_difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "values_a": list(a),
        "values_b": list(b),
    }


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    if len(a) != len(b):
        raise DataError(f"pairs were wanted: {len(a)} values on one side, {len(b)} on the other")
    _check(a)
    _check(b)
    return [after - before for before, after in zip(a, b, strict=True)]


def _check(values: Sequence[float]) -> None:
    if not values:
        raise DataError("no values to summarise")
    if not all(math.isfinite(value) for value in values):
        raise DataError("a value is missing or infinite: a failed run has no place in a comparison")


def _t_quantile(p: float, freedom: int) -> float:
    try:
        from scipy.special import stdtrit
    except ImportError as problem:
        raise MissingExtraError("scipy", "train") from problem
    return float(stdtrit(freedom, p))
