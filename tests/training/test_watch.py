"""Which losses end a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.training.watch import ENOUGH, WINDOW, Watch, no_number


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)]
)
def test_what_is_no_number_is_refused_from_the_first_step(loss: float, norm: float) -> None:
    assert Watch(None).judge(loss, norm) == no_number(loss, norm) == f"loss {loss}, gradient norm {norm}"


@given(st.lists(st.floats(0.1, 10), min_size=ENOUGH, max_size=3 * WINDOW), st.floats(0, 100))
def test_a_jump_is_told_by_the_median_of_the_last_steps(losses: list[float], loss: float) -> None:
    watch = Watch(3.0)
    watch.recent[""] = losses[-WINDOW:]
    last = sorted(losses[-WINDOW:])
    median = (last[(len(last) - 1) // 2] + last[len(last) // 2]) / 2
    assert (watch.judge(loss, 1.0) is not None) == (loss > 3 * median and loss > median + 1)


def test_a_jump_leaves_the_median_as_it_was() -> None:
    watch = Watch(2.0)
    watch.recent[""] = [1.0] * ENOUGH
    assert watch.judge(9.0, 1.0) == f"loss 9, where the median of the last {ENOUGH} is 1"
    assert watch.recent[""] == [1.0] * ENOUGH


def test_nothing_is_a_jump_at_the_start_or_without_a_bound() -> None:
    young, bold = Watch(2.0), Watch(None)
    young.recent[""], bold.recent[""] = [1.0] * (ENOUGH - 1), [1.0] * WINDOW
    assert young.judge(9.0, 1.0) is None
    assert bold.judge(1e9, 1.0) is None


def test_steps_that_ask_something_else_are_not_compared() -> None:
    watch = Watch(3.0)
    for _ in range(WINDOW + 50):
        assert watch.judge(2.0, 1.0, ["loss", "mlm"]) is None
    assert watch.judge(8.0, 1.0, ["mlm", "causal", "loss"]) is None, "the first of its kind"
    assert watch.judge(8.0, 1.0, ["mlm", "loss"]) is not None
    assert {asked: len(losses) for asked, losses in watch.recent.items()} == {
        "loss mlm": WINDOW,
        "causal loss mlm": 1,
    }
