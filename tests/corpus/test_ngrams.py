"""Units are what a slow reader would say, and n-grams are equal where their units are."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text

from fenghuo.corpus.ngrams import ngrams, runs, shingles, units_of

WORDS = st.lists(
    st.sampled_from([*"语言模型很好の안", "bert", "GPT4", "Straße", "，", " ", "㎏", "e\u0301", "𠀀", "😀"]),
    max_size=30,
)
PIECES = WORDS.map("".join)


def slow_units(text: str) -> list[str]:
    """The units of a text, one character after another."""
    folded = unicodedata.normalize("NFKC", text.casefold()).casefold()
    found, inside = list[str](), False
    for character in folded:
        code = ord(character)
        word = unicodedata.category(character)[0] in "LNM" and not 0x10000 <= code < 0x20000
        alone = word and (
            0x2E80 <= code < 0xA4D0 or 0x0E00 <= code < 0x0F00 or code >= 0x20000 or 0xF900 <= code < 0xFB00
        )
        if alone or (word and not inside):
            found.append(character)
        elif word:
            found[-1] += character
        inside = word and not alone
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=5))
def test_units_and_ngrams_are_those_of_a_slow_reader(texts: list[str]) -> None:
    wanted = [slow_units(text) for text in texts]
    units = units_of(texts)
    assert units.counts.tolist() == list(map(len, wanted))
    names: dict[int, str] = {}
    for value, name in zip(units.hashes.tolist(), [one for part in wanted for one in part], strict=True):
        assert names.setdefault(value, name) == name
    assert len(set(names.values())) == len(names)
    hashes, begins = ngrams(units, 3)
    slow = [tuple(part[i : i + 3]) for part in wanted for i in range(len(part) - 2)]
    assert len(hashes) == len(slow)
    assert len(set(hashes.tolist())) == len(set(slow))
    assert len(set(zip(hashes.tolist(), slow, strict=True))) == len(set(slow))
    assert (runs(units, begins, begins + 3) == hashes).all()


@settings(max_examples=200, deadline=None)
@given(odd_text)
def test_folding_before_changes_nothing(text: str) -> None:
    folded = unicodedata.normalize("NFKC", text.casefold()).casefold()
    assert units_of([text]).hashes.tolist() == units_of([folded]).hashes.tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("语言模型BERT，很好！", "语言模型 bert很好"),
        ("Ｂｅｒｔ１２", "bert12"),
        ("한국어", "한국어"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("café", "cafe\u0301"),
        ("The end. Of it", "the END of—it"),
    ],
)
def test_what_makes_no_difference(one: str, other: str) -> None:
    assert units_of([one]).hashes.tolist() == units_of([other]).hashes.tolist()


def test_place_makes_no_difference() -> None:
    alone = units_of(["语言模型很好 it is"]).hashes
    beside = units_of(["前 words", "语言模型很好 it is", "后"]).hashes
    assert (beside[2:10] == alone).all()
    hashes, _ = ngrams(units_of(["前语言模型很好", "语言模型很好后"]), 6)
    assert len(set(hashes.tolist())) == 3  # 语言模型很好 is in both


def test_a_short_text_is_one_shingle() -> None:
    hashes, offsets = shingles(units_of(["语言", "", "，。", "语言模型很好", "语言"]), 5)
    assert offsets.tolist() == [0, 1, 2, 3, 5]
    assert hashes[0] == hashes[5]
    assert hashes[1] == hashes[2]  # neither has a unit: whoever asks must look
