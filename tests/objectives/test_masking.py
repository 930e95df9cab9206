"""Statistics of what is hidden, against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.objectives.masking import choose_units, show_instead
from fenghuo.text.tokenizer import Vocabulary

# Ids 0–4 are special, 5–9 unused, 10–99 may be drawn.
VOCABULARY = Vocabulary(
    size=100,
    pad=0,
    unk=1,
    cls=2,
    sep=3,
    mask=4,
    between=(3,),
    second_segment=1,
    replaceable=np.arange(10, 100),
)
WORDS = st.lists(st.integers(1, 5), min_size=1, max_size=40)


def starts_of(words: list[int]) -> np.ndarray:
    starts = np.zeros(sum(words), dtype=np.bool_)
    starts[np.cumsum([0, *words[:-1]])] = True
    return starts


@given(WORDS, st.floats(0.01, 0.9), st.integers(0, 2**32))
def test_words_are_hidden_whole(words: list[int], rate: float, seed: int) -> None:
    starts = starts_of(words)
    chosen = choose_units(starts, rate, np.random.default_rng(seed))
    unit = np.cumsum(starts) - 1
    for number in range(len(words)):
        assert len(set(chosen[unit == number])) == 1
    hidden = sum(chosen[starts])
    assert int(rate * len(words)) <= hidden <= int(rate * len(words)) + 1


@pytest.mark.parametrize("words", [[1], [3], [1, 4], [1] * 7, [2, 1, 3, 1, 1, 5, 2], [1, 2] * 30])
def test_the_expected_number_is_right_at_every_length(words: list[int]) -> None:
    starts, rate, draws = starts_of(words), 0.15, 20_000
    rng = np.random.default_rng(len(words))
    hidden = np.array([choose_units(starts, rate, rng).sum() for _ in range(draws)])
    # Five standard errors of the measured mean.
    assert abs(hidden.mean() - rate * sum(words)) < 5 * hidden.std() / draws**0.5 + 1e-9


def test_every_word_is_as_likely_as_any_other() -> None:
    words, draws = [1, 5, 2, 1, 3], 20_000
    starts = starts_of(words)
    rng = np.random.default_rng(3)
    share = np.mean([choose_units(starts, 0.3, rng)[starts] for _ in range(draws)], axis=0)
    np.testing.assert_allclose(share, 0.3, atol=5 * (0.3 * 0.7 / draws) ** 0.5)


def test_eighty_ten_ten_and_one_die_a_word() -> None:
    rng = np.random.default_rng(0)
    words = [2] * 50_000
    starts, pieces = starts_of(words), rng.integers(10, 100, 100_000)
    chosen = np.ones(len(pieces), dtype=np.bool_)
    shown = show_instead(pieces, starts, chosen, VOCABULARY, rng)
    masked = (shown == VOCABULARY.mask).reshape(-1, 2)
    assert (masked[:, 0] == masked[:, 1]).all()
    kept = (shown == pieces).reshape(-1, 2).all(1)
    error = 5 * (0.8 * 0.2 / len(words)) ** 0.5
    assert abs(masked[:, 0].mean() - 0.8) < error
    # A garbled word equals the old one by chance once in 90² draws.
    assert abs(kept.mean() - (0.1 + 0.1 / 90**2)) < error


def test_random_pieces_are_neither_special_nor_unused_and_evenly_drawn() -> None:
    rng = np.random.default_rng(1)
    pieces = np.full(200_000, 10)
    every = np.ones(len(pieces), dtype=np.bool_)
    shown = show_instead(pieces, every, every, VOCABULARY, rng)
    garbled = shown[(shown != VOCABULARY.mask) & (shown != 10)]
    assert set(garbled) == set(range(11, 100))
    counts = np.bincount(garbled, minlength=100)[11:]
    assert abs(counts - counts.mean()).max() < 6 * counts.mean() ** 0.5


@given(WORDS, st.integers(0, 2**32))
def test_what_is_not_chosen_is_shown_as_it_stood(words: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts, pieces = starts_of(words), rng.integers(10, 100, sum(words))
    chosen = choose_units(starts, 0.5, rng)
    shown = show_instead(pieces, starts, chosen, VOCABULARY, rng)
    assert (shown[~chosen] == pieces[~chosen]).all()


def test_nothing_is_chosen_from_nothing() -> None:
    rng = np.random.default_rng(0)
    empty = np.zeros(0, dtype=np.bool_)
    assert len(choose_units(empty, 0.15, rng)) == 0
    assert len(show_instead(np.zeros(0, dtype=np.int64), empty, empty, VOCABULARY, rng)) == 0
