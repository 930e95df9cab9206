"""Means of what was asked, over the steps that asked it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from fenghuo.training.loop import Step
from fenghuo.training.tally import Tally

figures = st.fixed_dictionaries(
    {"loss": st.integers(0, 99)}, optional={"mlm": st.integers(0, 99), "causal": st.integers(0, 99)}
)


def step(number: int, told: dict[str, int]) -> Step:
    return Step(number, None, told, grad_norm=1.0, rate=1e-3, pieces=10 * number, spent_s=0.5)


@given(st.lists(figures, min_size=1, max_size=12), st.integers(0, 12))
def test_a_figure_is_a_mean_over_the_steps_that_have_it_also_across_a_restart(
    told: list[dict[str, int]], kept: int
) -> None:
    tally = Tally(of_peak=True)
    for number, one in enumerate(told, start=1):
        if number == kept:
            saved = json.loads(json.dumps(tally.to_json()))
            tally = Tally(of_peak=True)
            tally.restore(saved)
        tally.add(step(number, one), 0.25)
    found = tally.taken()
    for name in {name for one in told for name in one}:
        values = [one[name] for one in told if name in one]
        assert found.pop(name) == sum(values) / len(values)
    pieces = 10 * sum(range(1, len(told) + 1))
    assert found == {"pieces_per_s": pieces / (0.5 * len(told)), "share_of_peak": 0.5}
    tally.add(step(1, {"loss": 3}), 0.0)
    assert tally.taken() == {"loss": 3, "pieces_per_s": 20.0, "share_of_peak": 0.0}


def test_without_a_peak_none_is_told() -> None:
    tally = Tally(of_peak=False)
    tally.add(step(1, {"loss": 3}), 0.0)
    assert tally.taken() == {"loss": 3, "pieces_per_s": 20.0}
