"""Schedules against their properties and a few of their numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fenghuo.training.recipe import ScheduleRecipe
from fenghuo.training.schedule import rate_at

NAMES = ["linear", "cosine", "constant", "polynomial", "inverse_sqrt", "wsd"]


def rates(total: int, **values: object) -> list[float]:
    recipe = ScheduleRecipe(**values)
    return [rate_at(step, total, recipe) for step in range(1, total + 1)]


@given(
    st.sampled_from(NAMES),
    st.integers(1, 500),
    st.one_of(st.floats(0, 0.9), st.integers(1, 50).map(float)),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from(["linear", "sqrt"]),
)
def test_a_schedule_stays_within_its_peak_and_always_moves(
    name: str, total: int, warmup: float, end: float, fall: str
) -> None:
    more = {"end": end} if name not in ("constant", "inverse_sqrt") else {}
    more |= {"fall": fall} if name == "wsd" else {}
    found = rates(total, name=name, warmup=warmup, **more)
    assert all(0 < rate <= 1 for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_linear_warmup_ends_at_the_peak_without_a_jump() -> None:
    found = rates(100, name="linear", warmup=10)
    assert found[9] == 1.0
    assert max(abs(a - b) for a, b in pairwise(found)) <= 0.1 + 1e-12
    assert found[-1] == pytest.approx(1 / 91)


def test_a_share_of_warmup_is_that_many_steps() -> None:
    assert rates(200, warmup=0.1) == rates(200, warmup=20)


def test_the_shapes_are_those_of_their_sources() -> None:
    assert rates(1000, name="polynomial", warmup=0, power=2.0)[499] == pytest.approx(
        (501 / 1001) ** 2, rel=5e-3
    )
    assert rates(1000, name="cosine", warmup=0, end=0.1)[499] == pytest.approx(0.1 + 0.9 * 0.5, abs=2e-3)
    # Vaswani et al., §5.3: min(step^-0.5, step * warmup^-1.5), here over its largest value
    for step, rate in enumerate(rates(400, name="inverse_sqrt", warmup=50), start=1):
        assert rate == pytest.approx(min(step**-0.5, step * 50**-1.5) * math.sqrt(50))
    falling = rates(1000, name="wsd", warmup=100, decay=0.3, fall="sqrt")
    assert set(falling[99:700]) == {1.0}
    assert falling[849] == pytest.approx(1 - math.sqrt(0.5), abs=5e-3)
    assert rates(1000, name="wsd", warmup=100, decay=0.3)[849] == pytest.approx(0.5, abs=5e-3)


@given(st.sampled_from(NAMES), st.integers(1, 300), st.sampled_from([0.0, 0.1, 0.37]))
def test_an_estimate_that_happens_to_be_right_gives_the_same_rates(
    name: str, step: int, warmup: float
) -> None:
    """What a budget passes: a length that is no whole number. Only the warm-up's rounding may differ."""
    recipe = ScheduleRecipe(name=name, warmup=warmup)
    assert rate_at(step, 300 + 1e-9, recipe) == pytest.approx(rate_at(step, 300, recipe), abs=1e-3)


def test_values_without_a_part_in_the_shape_are_refused() -> None:
    for values in ({"power": 2.0}, {"decay": 0.1}, {"name": "constant", "end": 0.1}):
        with pytest.raises(ValidationError, match="has no part in"):
            ScheduleRecipe(**values)
