"""NSP and SOP: nothing is lost, nothing leaks, and chance is what it is said to be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from tests.objectives.small import Documents, example, vocabulary

from fenghuo.errors import DataError
from fenghuo.objectives.draft import Draft, frame_pair, frame_text
from fenghuo.objectives.nsp import NextSentence
from fenghuo.objectives.objective import build_questions
from fenghuo.objectives.recipe import MlmRecipe, SopRecipe
from fenghuo.objectives.sop import SentenceOrder

SENTENCES = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def texts_of(draft: Draft) -> list[list[int]]:
    """The texts between special pieces."""
    cuts = np.flatnonzero(np.diff(draft.fixed.astype(int))) + 1
    runs = zip(np.split(draft.pieces, cuts), np.split(draft.fixed, cuts), strict=True)
    return [pieces.tolist() for pieces, fixed in runs if not fixed[0]]


@settings(deadline=None, max_examples=40)
@given(SENTENCES, st.integers(0, 2**32), st.booleans())
def test_sop_shows_every_piece_of_a_slice_once(sentences: list[int], seed: int, roberta: bool) -> None:
    one, words = example(sentences), vocabulary(roberta=roberta)
    draft = SentenceOrder(vocabulary=words).frame(one, np.random.default_rng(seed))
    texts = texts_of(draft)
    label = draft.arrays["pair_label"].tolist()
    if len(sentences) == 1:  # it stays, and is asked nothing
        assert texts == [one.pieces.tolist()]
        assert not label
        assert not len(draft.arrays["pair_at"])
        assert not draft.segments.any()
    else:
        assert [*texts[label[0]], *texts[1 - label[0]]] == one.pieces.tolist()
        assert draft.arrays["pair_at"].tolist() == [0]
        assert len(texts[label[0]]) in np.cumsum(sentences)[:-1]
    assert len(draft.pieces) == len(one.pieces) + words.specials(pair=len(sentences) > 1)


def test_sop_draws_edges_and_orders_evenly() -> None:
    draws, one = 3_000, example([3, 1, 4, 2, 5])
    rng, objective = np.random.default_rng(5), SentenceOrder(vocabulary=vocabulary())
    seen: Counter[tuple[int, int]] = Counter()
    for _ in range(draws):
        draft = objective.frame(one, rng)
        [label] = draft.arrays["pair_label"].tolist()
        seen[label, len(texts_of(draft)[label])] += 1
    assert set(seen) == {(label, edge) for label in (0, 1) for edge in (3, 4, 8, 10)}
    for count in seen.values():  # five standard errors of a share of one eighth
        assert abs(count / draws - 1 / 8) < 5 * (1 / 8 * 7 / 8 / draws) ** 0.5


def test_nsp_draws_from_other_documents_in_half_of_the_cases() -> None:
    source = Documents(90)
    objective, rng = NextSentence(vocabulary=vocabulary(), source=source), np.random.default_rng(2)
    home = {str(source[i].pieces.tolist())[1:-1]: source[i].document for i in range(len(source))}
    labels: list[int] = []
    for _ in range(12):
        for index in range(len(source)):
            one = source[index]
            draft = objective.frame(one, rng)
            a, *b = texts_of(draft)
            if not b:
                assert a == one.pieces.tolist()
                continue
            [label] = draft.arrays["pair_label"].tolist()
            labels.append(label)
            assert len(a) + len(b[0]) <= source.max_pieces
            if label == 0:
                assert a + b[0] == one.pieces.tolist()
            else:
                assert a == one.pieces[: len(a)].tolist()
                found = [document for text, document in home.items() if str(b[0])[1:-1] in text]
                assert found
                assert one.document not in found
    assert abs(np.mean(labels) - 0.5) < 5 * 0.5 / len(labels) ** 0.5


@settings(deadline=None, max_examples=40)
@given(SENTENCES, SENTENCES, st.integers(0, 2**32))
def test_a_foreign_text_ends_at_an_edge(sentences: list[int], other: list[int], seed: int) -> None:
    class Two(Documents):
        max_pieces = 24

        def __getitem__(self, index: int):
            return example(other, index=1, document=1)

    one = example([min(length, 3) for length in sentences])
    objective = NextSentence(vocabulary=vocabulary(), source=Two(6))
    draft = objective.frame(one, np.random.default_rng(seed))
    if draft.arrays["pair_label"].tolist() == [1]:
        a, b = texts_of(draft)
        assert len(a) + len(b) <= 24
        text = Two(6)[0]
        [*starts] = [at for at in range(len(text.pieces)) if text.pieces[at : at + len(b)].tolist() == b]
        assert any(text.sentence_start[at] for at in starts)


def test_nsp_lengths_do_not_tell_the_label() -> None:
    class Filled(Documents):
        """Slices filled with sentences, and a short one at the end of each document."""

        max_pieces = 120

        def __getitem__(self, index: int):
            draw = np.random.default_rng((7, index))
            lengths = np.cumsum(draw.integers(3, 40, 40))
            budget = draw.integers(20, 121) if index % 3 == 2 else 120
            ends = lengths[lengths <= budget]
            return example(
                np.diff(ends, prepend=0).tolist() or [20], index=index, document=index // self.per_document
            )

    source = Filled(2_400)
    objective, rng = NextSentence(vocabulary=vocabulary(), source=source), np.random.default_rng(4)
    drafts = [objective.frame(source[index], rng) for index in range(2_400)]
    pairs = [(*map(len, texts_of(draft)), *draft.arrays["pair_label"]) for draft in drafts]
    first, second, label = np.array([pair for pair in pairs if len(pair) == 3]).T
    assert len(label) > 1_800
    long = first > 60
    for lengths, which in [(second, ...), (first + second, ...), (second, long), (second, ~long)]:
        true, foreign = (lengths[which][label[which] == value] for value in (0, 1))
        assert ks_2samp(true, foreign).statistic < 0.08  # a bound on length would tell 54 of 100 at most


def test_nsp_of_one_document_is_refused() -> None:
    with pytest.raises(DataError, match="from another document, and the corpus has 1"):
        NextSentence(vocabulary=vocabulary(), source=Documents(3))


def test_nsp_does_not_search_for_ever() -> None:
    class Lopsided(Documents):
        documents = 2  # the other one is empty of slices

    source = Lopsided(3, per_document=3)
    objective = NextSentence(vocabulary=vocabulary(), source=source)
    rng = np.random.default_rng(0)
    labels = [objective.frame(source[2], rng).arrays["pair_label"].tolist() for _ in range(40)]
    assert [1] not in labels


@pytest.mark.parametrize("roberta", [False, True])
def test_framing_is_the_tokenizers(roberta: bool) -> None:
    words, one = vocabulary(roberta=roberta), example([3, 2])
    parts = [(one.pieces[at], one.word_start[at]) for at in (slice(3), slice(3, 5))]
    draft = frame_pair(words, *parts)
    a, b = one.pieces[:3].tolist(), one.pieces[3:].tolist()
    middle = [3, 3] if roberta else [3]
    assert draft.pieces.tolist() == [2, *a, *middle, *b, 3]
    assert draft.segments.tolist() == [0] * (4 + len(middle)) + [0 if roberta else 1] * 3
    assert draft.fixed.tolist() == [True, *[False] * 3, *[True] * len(middle), False, False, True]
    assert draft.word_start.tolist() == [True, True, False, True, *[True] * len(middle), True, False, True]


def test_documents_in_one_example_are_parted() -> None:
    one = example([3, 2, 4], documents=[0, 5])
    draft = frame_text(vocabulary(), one)
    assert draft.pieces.tolist() == [2, *one.pieces[:5], 3, *one.pieces[5:], 3]
    assert not draft.segments.any()
    assert np.flatnonzero(draft.fixed).tolist() == [0, 6, 11]


def test_a_masked_pair_hides_no_special_piece() -> None:
    source = Documents(40)
    questions = build_questions([MlmRecipe(rate=0.9), SopRecipe()], vocabulary(), source)
    for index in range(40):
        made = questions.prepare(source[index], np.random.default_rng(index))
        places = np.isin(made["pieces"], [2, 3])
        assert not places[made["asked_at"]].any()
        assert not np.isin(made["asked_pieces"], [2, 3]).any()
        assert len(made["segments"]) == len(made["pieces"])
