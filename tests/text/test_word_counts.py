"""Counted words: none is lost, none grows with the sentence, and memory is bounded."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from tests.text.odd_text import odd_text

import fenghuo.text.word_counts as module
from fenghuo.errors import DataError
from fenghuo.text.tokenizer import clean_characters
from fenghuo.text.word_counts import count_words
from fenghuo.text.words import RjiebaSegmenter

CUT = RjiebaSegmenter()


def test_words_of_the_segmenter_and_of_blanks() -> None:
    words = count_words(["我们使用Linux的命令，don't stop 42 个。"], CUT)
    assert list(words) == sorted(words)
    assert {"我们", "使用", "Linux", "的", "命令", "，", "don", "'t", " stop", " 42", " ", "个", "。"} == set(
        words
    )


@settings(max_examples=60, deadline=None)
@given(odd_text)
def test_every_character_is_in_one_word(text: str) -> None:
    counted: Counter[str] = Counter()
    try:
        words = count_words([text], CUT)
    except DataError:
        assert len(text) > module._LONGEST_WORD or not clean_characters(text).strip()
        return
    for word, times in words.items():
        for character in word:
            counted[character] += times
    if len(text) <= module._LONGEST_WORD:
        assert counted == Counter(clean_characters(text))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fenghuo.text.vocabulary._MOST_WORDS", 200)
    monkeypatch.setattr("fenghuo.text.vocabulary._COUNTED_TOGETHER", 1_000)
    words = count_words(
        (f"often{number % 3} 服务 {'x' * (number % 60)}{number}" for number in range(2_000)), CUT
    )
    assert len(words) < 700
    assert words["服务"] == 2_000
    assert words["often"] == 2_000


def test_what_is_too_long_is_no_word() -> None:
    assert set(count_words(["x" * 300_000 + " ok"], CUT)) == {" ok"}
