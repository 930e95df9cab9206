"""Signatures see through what does not matter, and many at once are those of one after another."""

from __future__ import annotations

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


def test_every_character_beside_another() -> None:
    """And alone: no character changes what becomes of its neighbour, unless the table says so."""
    for first in range(0, 0x30000, 0x1000):
        characters = list(map(chr, range(first, first + 0x1000)))
        for texts in (characters, [f"的{c}" for c in characters], [f"{c}e" for c in characters]):
            assert signatures(texts) == list(map(signature, texts))
