"""What the masked language model asks, by each unit; and who says how many words were right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives.small import Documents, example, vocabulary

from fenghuo.config import build_recipe
from fenghuo.corpus.loader import collate
from fenghuo.errors import RecipeError
from fenghuo.objectives.draft import Draft, frame_pair, frame_text
from fenghuo.objectives.mlm import MaskedLanguageModel, _words_right
from fenghuo.objectives.objective import build_questions
from fenghuo.objectives.recipe import MlmRecipe

VOCABULARY = vocabulary()
UNITS: dict[str, dict[str, Any]] = {
    "piece": {"unit": "piece"},
    "word": {"unit": "word"},
    "ngram": {"unit": "ngram"},
    "ngram, longer": {"unit": "ngram", "favor": "longer", "longest": 4},
    "ngram of pieces": {"unit": "ngram", "runs_of": "piece"},
    "span": {"unit": "span"},
    "span of pieces": {"unit": "span", "runs_of": "piece", "longest": 3, "geometric_p": 0.5},
}


def objective(**values: Any) -> MaskedLanguageModel:
    settings = build_recipe(MlmRecipe, {"name": "mlm", **values}).model_dump(exclude={"name", "share"})
    return MaskedLanguageModel(vocabulary=VOCABULARY, **settings)


def drafts(sentences: list[int], index: int) -> dict[str, Draft]:
    """The same text as one document, as two with a [SEP] between, and as a pair."""
    one = example(sentences, index=index)
    two = example(sentences, index=index, documents=[0, sentences[0]])
    halves = [
        (one.pieces[part], one.word_start[part]) for part in (slice(sentences[0]), slice(sentences[0], None))
    ]
    return {
        "text": frame_text(VOCABULARY, one),
        "documents": frame_text(VOCABULARY, two),
        "pair": frame_pair(VOCABULARY, *halves),
    }


@given(
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["unit", "word", "piece"]),
    st.sampled_from(["text", "documents", "pair"]),
    st.lists(st.integers(1, 12), min_size=2, max_size=4),
    st.floats(0.05, 0.7),
    st.integers(0, 2**20),
)
def test_what_is_asked(
    unit: str, decide: str, kind: str, sentences: list[int], rate: float, seed: int
) -> None:
    asks = objective(**UNITS[unit], decide=decide, rate=rate)
    draft = drafts(sentences, seed)[kind]
    before, words = draft.pieces.copy(), np.cumsum(draft.word_start)
    asks.ask(draft, np.random.default_rng(seed))
    asked_at = draft.arrays["asked_at"]
    np.testing.assert_array_equal(np.flatnonzero(draft.hidden), asked_at)
    assert not draft.fixed[asked_at].any()
    np.testing.assert_array_equal(draft.pieces[~draft.hidden], before[~draft.hidden])
    np.testing.assert_array_equal(draft.arrays["asked_pieces"], before[asked_at])
    shown = set(draft.pieces[asked_at].tolist())
    assert shown <= {VOCABULARY.mask, *VOCABULARY.replaceable.tolist()}
    if asks.hides_words:
        assert not set(words[draft.hidden]) & set(words[~draft.hidden])
    # Of a word of which some pieces are asked, the first asked one is marked.
    np.testing.assert_array_equal(
        np.flatnonzero(draft.arrays["asked_word"]), np.unique(words[asked_at], return_index=True)[1]
    )
    assert asks.counts(draft.arrays)["mlm_word_accuracy"] == len(set(words[asked_at]))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("decide", ["unit", "word", "piece"])
def test_the_die_is_cast_for_what_the_recipe_says(unit: str, decide: str) -> None:
    """Half [MASK], half as it stood: neighbours in a unit or word are shown alike where they share a die, and as often
    not where they do not."""
    asks = objective(**UNITS[unit], decide=decide, rate=0.3, mask_share=0.5, random_share=0.0)
    rng = np.random.default_rng(7)
    alike: dict[str, list[bool]] = {"word": [], "unit": []}
    for index in range(150):
        draft = frame_text(VOCABULARY, example([60], index=index))
        asks.ask(draft, rng)
        masked = draft.pieces == VOCABULARY.mask
        for at in np.flatnonzero(draft.hidden[1:] & draft.hidden[:-1]):
            # Of units that are words or pieces, two may stand side by side.
            same = "word" if not draft.word_start[at + 1] else "unit"
            alike[same].append(bool(masked[at] == masked[at + 1]))
    runs = "ngram" in unit or "span" in unit
    whole = {
        "unit": {"word": unit != "piece", "unit": runs},
        "word": {"word": True, "unit": False},
        "piece": {"word": False, "unit": False},
    }[decide]
    for what, found in alike.items():
        if whole[what]:
            assert all(found)
        else:
            assert abs(np.mean(found) - 0.5) < 5 * 0.5 / len(found) ** 0.5


@pytest.mark.parametrize("unit", UNITS)
def test_the_rate_holds_over_special_pieces_too(unit: str) -> None:
    asks, rng, draws = objective(**UNITS[unit], rate=0.15), np.random.default_rng(5), 500
    asked = []
    for _ in range(draws):
        draft = drafts([3, 6], 0)["pair"]
        asks.ask(draft, rng)
        asked.append(len(draft.arrays["asked_at"]))
    assert abs(np.mean(asked) - 0.15 * 9) < 5 * np.std(asked) / draws**0.5


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), max_size=12))
def test_a_word_is_right_when_all_its_asked_pieces_are(words: list[list[bool]]) -> None:
    right = torch.tensor([piece for word in words for piece in word], dtype=torch.bool)
    starts = torch.tensor([number == 0 for word in words for number in range(len(word))], dtype=torch.bool)
    assert int(_words_right(right, starts)) == sum(all(word) for word in words)


def test_words_of_neighbouring_examples_are_not_joined() -> None:
    asks, rng = objective(rate=0.9), np.random.default_rng(0)
    made = []
    for index in range(3):
        draft = frame_text(VOCABULARY, example([2], index=index))
        asks.ask(draft, rng)
        made.append({"pieces": draft.pieces, **draft.arrays})
    batch = collate(made)
    assert batch["asked_word"].sum() == len(made) == len(batch["asked_word"]) / 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"favor": "longer"}, "'favor' says nothing of unit 'word'.*ngram"),
        ({"unit": "ngram", "geometric_p": 0.2}, "'geometric_p' says nothing of unit 'ngram'.*span"),
        ({"unit": "piece", "longest": 2}, "'longest' says nothing of unit 'piece'.*ngram or span"),
        ({"unit": "piece", "runs_of": "piece"}, "'runs_of' says nothing"),
        ({"mask_share": 0.8, "random_share": 0.3}, "sum must be at most 1"),
        ({"unit": "chars"}, "'piece', 'word', 'ngram' or 'span'"),
    ],
)
def test_settings_without_effect_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        build_recipe(MlmRecipe, {"name": "mlm", **given})


def test_ernies_two_ways_are_two_alternatives() -> None:
    """ERNIE 1.0 (arXiv 1904.09223) draws for each file whether words or characters are hidden."""
    both = [build_recipe(MlmRecipe, {"name": "mlm", "unit": unit, "share": 1}) for unit in ("word", "piece")]
    questions = build_questions(both, VOCABULARY, Documents(40))
    source, kinds = Documents(40), []
    for index in range(40):
        made = questions.prepare(source[index], np.random.default_rng((9, index)))
        kinds.append(int(made["kind"]))
    assert 8 < sum(kinds) < 32
    assert questions.names == ["mlm"]
