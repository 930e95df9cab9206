"""Intervals against scipy's own, and against simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fenghuo.errors import DataError
from fenghuo.study.statistics import compare, mean_and_deviation, paired_interval

scores = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 4))
pairs = st.lists(st.tuples(scores, scores), min_size=2, max_size=30)


@given(pairs, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_that_of_scipys_paired_t_test(values, confidence):
    a, b = map(list, zip(*values, strict=True))
    ours = paired_interval(a, b, confidence=confidence)
    differences = np.subtract(b, a)
    assert ours.mean == pytest.approx(differences.mean(), abs=1e-12)
    if differences.std() < 1e-9:  # scipy warns of lost precision there
        assert ours.high - ours.low < 1e-6
        return
    theirs = stats.ttest_rel(b, a).confidence_interval(confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(pairs)
def test_swapping_the_arms_turns_the_sign(values):
    a, b = map(list, zip(*values, strict=True))
    there, back = paired_interval(a, b), paired_interval(b, a)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_what_beats_means():
    a = [0.90, 0.91, 0.89, 0.90, 0.92]
    assert paired_interval(a, [value + 0.01 for value in a]).excludes_zero
    assert paired_interval([value + 0.01 for value in a], a).excludes_zero
    assert not paired_interval(a, [0.92, 0.90, 0.90, 0.89, 0.93]).excludes_zero


def test_ninety_five_percent_of_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    trials, held = 1000, 0
    for _ in range(trials):
        a = rng.normal(0, 1, 5)
        interval = paired_interval(list(a), list(a + 0.3 + rng.normal(0, 0.5, 5)))
        held += interval.low <= 0.3 <= interval.high
    # Binomial(1000, 0.95) leaves 0.926 … 0.974 about once in 2,000 times; the seed is fixed besides.
    assert 0.926 < held / trials < 0.974


def test_mean_and_deviation():
    assert mean_and_deviation([0.5]) == (0.5, 0.0)
    mean, deviation = mean_and_deviation([1.0, 2.0, 4.0])
    assert (mean, deviation) == pytest.approx((np.mean([1, 2, 4]), np.std([1, 2, 4], ddof=1)))


def test_an_entry_of_a_study():
    entry = compare(
        "pretrained against from scratch", task="classify", metric="accuracy", a=[0.8, 0.81], b=[0.9, 0.9]
    )
    assert list(entry) == [
        "comparison", "task", "metric", "mean_difference", "low", "high", "n", "values_a", "values_b",
    ]  # fmt: skip
    assert entry["mean_difference"] == pytest.approx(0.095)
    assert entry["n"] == 2


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([0.1, 0.2], [0.1], "2 values on one side, 1"),
        ([0.1], [0.2], "at least two pairs"),
        ([0.1, float("nan")], [0.1, 0.2], "missing or infinite"),
        ([], [], "no values"),
    ],
)
def test_what_cannot_be_compared_is_said(a, b, message):
    with pytest.raises(DataError, match=message):
        paired_interval(a, b)
