"""Statistics of what is hidden, against its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives.small import FIRST, vocabulary

from fenghuo.objectives.masking import RunLengths, choose_runs, choose_units, show_instead

VOCABULARY = vocabulary()
WORDS = st.lists(st.integers(1, 5), min_size=1, max_size=40)
SPANS = RunLengths.spans(10, 0.2)
SHORTER, LONGER = RunLengths.ngrams(3, "shorter"), RunLengths.ngrams(3, "longer")
WAYS = {"units": None, "shorter": SHORTER, "longer": LONGER, "spans": SPANS}


def starts_of(words: list[int]) -> np.ndarray:
    starts = np.zeros(sum(words), dtype=np.bool_)
    starts[np.cumsum([0, *words[:-1]])] = True
    return starts


def choose(starts: np.ndarray, rate: float, way: str, rng: np.random.Generator) -> np.ndarray:
    lengths = WAYS[way]
    return choose_units(starts, rate, rng) if lengths is None else choose_runs(starts, rate, lengths, rng)


def runs_of(hidden: np.ndarray) -> list[int]:
    """Sizes of the longest runs of what is hidden."""
    return [len(list(group)) for is_hidden, group in itertools.groupby(hidden.tolist()) if is_hidden]


@given(WORDS, st.floats(0.01, 0.95), st.integers(0, 2**32), st.sampled_from(sorted(WAYS)))
def test_words_are_hidden_whole(words: list[int], rate: float, seed: int, way: str) -> None:
    starts = starts_of(words)
    unit = choose(starts, rate, way, np.random.default_rng(seed))
    word = np.cumsum(starts) - 1
    for number in range(len(words)):
        assert len(set(unit[word == number])) == 1
    hidden = sum(unit[starts] >= 0)
    assert int(rate * len(words)) <= hidden <= int(rate * len(words)) + 1
    assert set(unit.tolist()) | {-1} == set(range(-1, max(unit.tolist()) + 1))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "words", [[1], [3], [1, 4], [2, 1, 3], [1] * 7, [2, 1, 3, 1, 1, 5, 2], [5, 1, 1, 1, 1, 5], [1, 2] * 15]
)
def test_the_expected_number_is_right_at_every_length(words: list[int], way: str) -> None:
    starts, rate, draws = starts_of(words), 0.15, 4_000
    rng = np.random.default_rng(len(words))
    hidden = np.array([(choose(starts, rate, way, rng) >= 0).sum() for _ in range(draws)])
    # Five standard errors of the measured mean.
    assert abs(hidden.mean() - rate * sum(words)) < 5 * hidden.std() / draws**0.5 + 1e-9


@pytest.mark.parametrize("rate", [0.15, 0.4, 0.8])
@pytest.mark.parametrize("way", WAYS)
def test_every_word_is_as_likely_as_any_other(way: str, rate: float) -> None:
    """Also the first and the last, and where runs have no room to stand apart."""
    words, draws = [1, 5, 2, 1, 3, 1, 1, 2, 2], 6_000
    starts = starts_of(words)
    rng = np.random.default_rng(3)
    share = np.mean([choose(starts, rate, way, rng)[starts] >= 0 for _ in range(draws)], axis=0)
    np.testing.assert_allclose(share, rate, atol=5 * (rate * (1 - rate) / draws) ** 0.5)


@pytest.mark.parametrize("way", ["shorter", "longer", "spans"])
def test_runs_stand_apart_and_are_no_longer_than_they_may(way: str) -> None:
    starts = starts_of([1, 2, 1] * 20)
    longest = len(WAYS[way].shares)  # type: ignore[union-attr]
    rng = np.random.default_rng(4)
    for _ in range(500):
        unit = choose(starts, 0.15, way, rng)[starts]
        sizes = runs_of(unit >= 0)
        assert max(sizes) <= longest
        seen_as_two = unit[0] == unit[-1] >= 0 and len(sizes) > 1
        assert len(sizes) == len(set(unit[unit >= 0])) + seen_as_two


def compositions(total: int, longest: int) -> list[tuple[int, ...]]:
    """Every list of numbers up to `longest` that adds up to `total`."""
    if not total:
        return [()]
    return [
        (first, *rest)
        for first in range(1, min(total, longest) + 1)
        for rest in compositions(total - first, longest)
    ]


@pytest.mark.parametrize("budget", [1, 2, 5, 8])
@pytest.mark.parametrize("lengths", [SHORTER, LONGER, SPANS], ids=["shorter", "longer", "spans"])
def test_each_list_of_lengths_has_its_probability(lengths: RunLengths, budget: int) -> None:
    lists = compositions(budget, len(lengths.shares))
    weight = np.array([math.prod(lengths.shares[n - 1] for n in one) for one in lists])
    probability = weight / weight.sum()
    rng, draws = np.random.default_rng(budget), 10_000
    numbers = {one: number for number, one in enumerate(lists)}
    drawn = np.bincount(
        [numbers[tuple(lengths.fill(budget, rng))] for _ in range(draws)], minlength=len(lists)
    )
    error = (probability * (1 - probability) / draws) ** 0.5
    assert (abs(drawn / draws - probability) < 5 * error + 5 / draws).all()


@pytest.mark.parametrize(
    ("lengths", "shares"),
    [
        (SHORTER, [6 / 11, 3 / 11, 2 / 11]),  # albert_zh's create_pretraining_data_google.py, ngram 3
        (LONGER, [2 / 11, 3 / 11, 6 / 11]),
        (SPANS, [0.2 * 0.8 ** (n - 1) / (1 - 0.8**10) for n in range(1, 11)]),  # SpanBERT, §3.1
    ],
    ids=["shorter", "longer", "spans"],
)
def test_far_from_its_ends_a_budget_is_filled_with_the_shares(
    lengths: RunLengths, shares: list[float]
) -> None:
    assert lengths.shares == pytest.approx(shares)
    rng, draws = np.random.default_rng(5), 300
    found = np.bincount([n for _ in range(draws) for n in lengths.fill(400, rng)])[1:]
    error = (np.array(shares) / found.sum()) ** 0.5
    # An end takes a run's length or so from 400 words.
    assert (abs(found / found.sum() - shares) < 5 * error + 0.004).all()


def test_the_mean_span_is_that_of_the_paper() -> None:
    assert sum(n * share for n, share in enumerate(SPANS.shares, 1)) == pytest.approx(3.8, abs=0.01)


@pytest.mark.parametrize(("mask_share", "random_share"), [(0.8, 0.1), (0.5, 0.5), (1.0, 0.0), (0.0, 0.2)])
def test_what_is_shown_has_its_shares_and_one_die_a_number(mask_share: float, random_share: float) -> None:
    rng, units = np.random.default_rng(0), 30_000
    pieces = rng.integers(FIRST, 200, 2 * units)
    die_of = np.repeat(np.arange(units), 2)
    shown = show_instead(
        pieces, die_of, VOCABULARY, rng, mask_share=mask_share, random_share=random_share
    ).reshape(-1, 2)
    masked = shown == VOCABULARY.mask
    assert (masked[:, 0] == masked[:, 1]).all()
    kept = (shown == pieces.reshape(-1, 2)).all(1)

    def near(found: float, wanted: float) -> bool:
        return abs(found - wanted) <= 5 * (wanted * (1 - wanted) / units) ** 0.5 + 1e-12

    assert near(masked[:, 0].mean(), mask_share)
    # A garbled pair equals the old one by chance once in 190² draws.
    assert near(kept.mean(), 1 - mask_share - random_share * (1 - 1 / 190**2))


def test_random_pieces_are_neither_special_nor_unused_and_evenly_drawn() -> None:
    rng = np.random.default_rng(1)
    pieces = np.full(200_000, FIRST)
    shown = show_instead(pieces, np.arange(len(pieces)), VOCABULARY, rng, mask_share=0.0, random_share=1.0)
    assert set(shown) == set(VOCABULARY.replaceable)
    counts = np.bincount(shown, minlength=200)[FIRST:]
    assert abs(counts - counts.mean()).max() < 6 * counts.mean() ** 0.5


def test_nothing_is_chosen_from_nothing() -> None:
    rng = np.random.default_rng(0)
    empty = np.zeros(0, dtype=np.bool_)
    assert len(choose_units(empty, 0.15, rng)) == 0
    assert len(choose_runs(empty, 0.15, SPANS, rng)) == 0
    none = np.zeros(0, dtype=np.int64)
    assert len(show_instead(none, none, VOCABULARY, rng)) == 0


@pytest.mark.parametrize("pieces", [1, 3, 7, 20, 126])
def test_how_the_rule_of_berts_script_differs(pieces: int) -> None:
    """create_pretraining_data.py hides max(1, round(rate * (pieces + specials))): far too many of a short text."""
    rate, draws = 0.15, 4_000
    starts, rng = np.ones(pieces, dtype=np.bool_), np.random.default_rng(pieces)
    theirs = max(1, round(rate * (pieces + 3)))
    ours = np.mean([(choose_units(starts, rate, rng) >= 0).sum() for _ in range(draws)])
    assert ours == pytest.approx(rate * pieces, abs=5 * 0.5 / draws**0.5)
    assert theirs / (rate * pieces) == pytest.approx(
        {1: 6.67, 3: 2.22, 7: 1.9, 20: 1.0, 126: 1.0}[pieces], abs=0.06
    )
