"""Permutations visit everything once, look like chance, and depend on their key alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fenghuo.corpus.order import keyed_generator, permuted


@given(st.integers(1, 2_000) | st.integers(4_000, 9_000), st.integers(-(2**63), 2**64), st.integers(0, 1_000))
def test_a_permutation_is_one(size: int, seed: int, epoch: int) -> None:
    found = permuted(np.arange(size), size, (seed, epoch))
    assert sorted(found.tolist()) == list(range(size))


def test_one_place_costs_the_same_in_a_large_range() -> None:
    size = 10**12 + 7
    places = np.array([0, 1, size - 1])
    found = permuted(places, size, (1, 2))
    assert ((found >= 0) & (found < size)).all()
    assert len(set(found.tolist())) == 3
    assert permuted(places[1:2], size, (1, 2))[0] == found[1]


@pytest.mark.parametrize("size", [2, 3, 5, 17, 100, 4_097, 10_000])
def test_every_example_stands_everywhere_equally_often(size: int) -> None:
    asked = np.array([0, size // 2, size - 1])
    places = np.array([permuted(asked, size, (7, epoch)) for epoch in range(700)])
    bins = min(size, 10)
    for column in range(len(asked)):
        counts = np.bincount(places[:, column] * bins // size, minlength=bins)
        expected = np.bincount(np.arange(size) * bins // size) / size * len(places)
        assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_neighbours_are_torn_apart() -> None:
    """Pairs of neighbouring visits must not keep their distance from one another."""
    size = 5_000
    steps = np.concatenate([np.diff(permuted(np.arange(size), size, (0, epoch))) for epoch in range(40)])
    together = np.mean(np.abs(steps) == 1)
    assert together == pytest.approx(2 / size, rel=0.35)
    assert stats.spearmanr(np.arange(size), permuted(np.arange(size), size, (0, 1))).pvalue > 1e-4


def test_other_keys_give_other_orders() -> None:
    orders = {tuple(permuted(np.arange(50), 50, key)) for key in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0)]}
    assert len(orders) == 5


def test_generators_depend_on_their_key_alone() -> None:
    draws = {
        key: tuple(keyed_generator(*key).integers(0, 2**62, 4))
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (-1, 0, 0)]
    }
    assert len(set(draws.values())) == 5
    assert draws[0, 1, 0] == tuple(keyed_generator(0, 1, 0).integers(0, 2**62, 4))
    mean = np.mean([keyed_generator(3, 0, index).random() for index in range(700)])
    assert mean == pytest.approx(0.5, abs=0.02)
