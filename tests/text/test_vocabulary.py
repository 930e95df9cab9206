"""Trained vocabularies: never too large, the same in every process, and made of byte-pair merges."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text

import fenghuo.text.vocabulary as module
from fenghuo.errors import DataError, RecipeError
from fenghuo.text.vocabulary import SPECIALS, train_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXED = len(SPECIALS) + 2 * 36  # special pieces, and Latin letters and figures in both forms
TEXTS = ["语言模型 learns language models", "语言，語言。Learning 中文的语言", "かな カナ 한국어 é 3.14"]


def learnt(texts: list[str], size: int = 10_000, **options: object) -> list[str]:
    return train_vocabulary(texts, size=size, **options).pieces()[FIXED:]


def test_specials_first_then_letters() -> None:
    tokenizer = train_vocabulary(TEXTS, size=200)
    assert tokenizer.pieces()[:5] == list(SPECIALS)
    assert tokenizer.vocabulary.pad == 0
    assert {"a", "##a", "7", "##7"} <= set(tokenizer.pieces()[:FIXED])
    assert {"A", "##A"} <= set(train_vocabulary(TEXTS, size=200, lowercase=False).pieces())
    assert "A" not in tokenizer.pieces()


def test_most_frequent_first() -> None:
    assert learnt(["中中中文文，", "中文文。。"]) == ["中", "文", "。"]
    assert learnt(["中中中文文，"], min_frequency=1) == ["中", "文", "，"]
    assert learnt(["ab ab ab 中中 ab cd cd cd"]) == ["ab", "cd", "中"]


@settings(max_examples=60, deadline=None)
@given(st.lists(odd_text, min_size=1, max_size=6), st.integers(6, 160), st.booleans())
def test_sizes_and_chinese_characters(texts: list[str], size: int, lowercase: bool) -> None:
    try:
        tokenizer = train_vocabulary(texts, size=size, lowercase=lowercase, min_frequency=1)
    except DataError:
        assert "中" not in "".join(texts)
        return
    pieces = tokenizer.pieces()
    assert len(pieces) == len(set(pieces)) <= size
    assert not any(piece.startswith("##") and "\u4e00" <= piece[2] <= "\u9fff" for piece in pieces)
    if (
        len(pieces) < size
    ):  # there was room for all of the text; WordPiece gives up words above 100 characters
        shorter = [text for text in texts if len(text) <= 90]
        assert all(
            tokenizer.vocabulary.unk not in found.ids for found in tokenizer.plain().encode_batch(shorter)
        )


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=2, max_size=7), st.integers(1, 9), max_size=12))
def test_merges_are_byte_pair_merges(words: dict[str, int]) -> None:
    """Against the definition, counted anew after each merge."""
    fast, wanted = module._Merges(words), []
    spelled = {word: [word[0], *("##" + letter for letter in word[1:])] for word in words}
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(spelled[word]):
                pairs[pair] += count
        assert fast.next_count() == max(pairs.values(), default=0)
        if not pairs:
            return
        pair = min(pairs, key=lambda pair: (-pairs[pair], pair))
        joined = pair[0] + pair[1][2:]
        wanted.append(joined)
        spelled = {word: module._joined(pieces, pair, joined) for word, pieces in spelled.items()}
        assert fast.merge() == joined


@settings(max_examples=20, deadline=None)
@given(st.permutations(TEXTS), st.booleans())
def test_the_order_of_texts_does_not_matter(texts: list[str], joined: bool) -> None:
    given_texts = ["\n".join(texts)] if joined else texts
    assert learnt(given_texts, min_frequency=1) == learnt(TEXTS, min_frequency=1)


@pytest.mark.slow
def test_every_process_finds_the_same() -> None:
    code = f"""from fenghuo.text.vocabulary import train_vocabulary
print(train_vocabulary({TEXTS!r}, size=150).fingerprint)"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{train_vocabulary(TEXTS, size=150).fingerprint}\n".encode()}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare words are forgotten when there are too many; frequent ones are counted exactly."""
    monkeypatch.setattr(module, "_MOST_WORDS", 200)
    monkeypatch.setattr(module, "_MOST_RUNS", 100)
    monkeypatch.setattr(module, "_COUNTED_TOGETHER", 1_000)
    counts = module._Counts(lowercase=True)
    held = []

    def texts() -> Iterator[str]:
        for number in range(3_000):
            held.append(len(counts.words) + len(counts._runs))
            yield f"often sometimes{number % 5} x{number} "

    for text in module.joined_up(texts()):
        counts.add(text)
    counts.settle()
    assert counts.words["often"] == 3_000
    assert counts.words["sometimes3"] == 600
    assert max(held) < 600


def test_long_words_cost_nothing() -> None:
    assert learnt(["x" * 300_000 + " ok ok"]) == ["ok"]


def test_mistakes_are_told() -> None:
    with pytest.raises(RecipeError, match="no room beside the 5 special"):
        train_vocabulary(["中"], size=5)
    with pytest.raises(DataError, match="no text"):
        train_vocabulary([" \n", "\u200b"], size=100)


def test_what_it_learnt_is_what_it_uses() -> None:
    tokenizer = train_vocabulary(["学习 learning learning 学习 learner"] * 3, size=100)
    pieces = [tokenizer.pieces()[i] for i in tokenizer.encode("Learning 学习").ids]
    assert pieces[-2:] == ["学", "习"]
    assert pieces[0].startswith("learn")
    assert np.all(tokenizer.encode("学习").ids >= FIXED)
