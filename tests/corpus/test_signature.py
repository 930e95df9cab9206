"""Signatures see through what does not matter, and many at once are those of one after another."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text

from fenghuo.corpus.signature import signature, signatures


@pytest.mark.parametrize(
    "other",
    ["语言模型 BERT，很好！", "语言模型bert很好", "「语言模型」 Ｂert\n很好。", "语言 模型：BERT 很好……"],
)
def test_signatures_see_through(other: str) -> None:
    assert signature(other) == signature("语言模型BERT很好")


def test_signatures_tell_apart() -> None:
    texts = ["语言模型", "语言模形", "模型语言", "语言模型1", "。", "！", "", "*", "**"]
    assert len({signature(text) for text in texts}) == len(texts)
    assert len(signature("\ud83d")) == 16


@settings(max_examples=100, deadline=None)
@given(odd_text)
def test_signatures_of_folded_text_are_the_same(text: str) -> None:
    if any(c.isalnum() for c in text):
        assert signature(text) == signature(f" {text}。\n")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(odd_text, st.text(max_size=6)), max_size=6))
def test_many_at_once_are_those_of_one_after_another(texts: list[str]) -> None:
    assert signatures(texts) == list(map(signature, texts))


def test_every_character() -> None:
    """Alone, behind an ideograph, and in front of a letter; of the empty planes their beginnings."""
    for first in (*range(0, 0x30000, 0x1000), *range(0x30000, 0x110000, 0x10000)):
        characters = list(map(chr, range(first, first + 0x1000)))
        for texts in (characters, [f"的{c}" for c in characters], [f"{c}e" for c in characters]):
            assert signatures(texts) == list(map(signature, texts))


def test_characters_that_become_one() -> None:
    """Or change places: also where a mark that goes stood between them."""
    parts = [unicodedata.decomposition(chr(code)).split() for code in range(0x110000)]
    pairs = [
        chr(int(a, 16)) + chr(int(b, 16)) for a, b in (two for two in parts if len(two) == 2) if "<" not in a
    ]
    assert len(pairs) > 900
    pairs += [
        "\u1100\u1161",
        "가\u11a8",
        "\u0301\u0323",
        "\u0323\u0301",
        "\u05b0\u05bc",
        "\U000110a5\U000110ba",
    ]
    for texts in (pairs, [f"{a}\u200d{b}" for a, b in pairs], [f"x{pair}y" for pair in pairs]):
        assert signatures(texts) == list(map(signature, texts))
