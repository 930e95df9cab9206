"""Unigram vocabularies: sums over a lattice against counting all ways, and what is learnt of small texts."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text

from fenghuo.errors import DataError, RecipeError
from fenghuo.text.lattice import Lattice
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.unigram import SPECIALS, train_unigram
from fenghuo.text.words import RjiebaSegmenter

TEXTS = [
    "我们使用语言模型，语言模型使用 Linux 的命令行。",
    "学习 learning learners 学习机器学习",
    "他们的服务很好",
]


def trained(texts: list[str] = TEXTS, size: int = 120, **options: bool) -> Tokenizer:
    return train_unigram(texts * 3, size=size, segmenter=RjiebaSegmenter(), **options)


def ways(word: str, pieces: dict[str, int], *, whole: bool = True) -> list[list[int]]:
    """Every way to cut a word, by the definition."""
    found = []
    for marks in product([False, True], repeat=len(word) - 1):
        edges = [0, *(n + 1 for n, mark in enumerate(marks) if mark), len(word)]
        parts = [word[a:b] for a, b in pairwise(edges)]
        if all(part in pieces for part in parts) and (whole or len(parts) > 1):
            found.append([pieces[part] for part in parts])
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_sums_and_maxima_are_those_of_all_ways(data: st.DataObject) -> None:
    words = sorted(data.draw(st.sets(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=6)))
    several = data.draw(st.sets(st.text("abc", min_size=2, max_size=4), max_size=8))
    pieces = {piece: n for n, piece in enumerate([*"abc", *sorted(several)])}
    scores = np.array(data.draw(st.lists(st.floats(-9, 0), min_size=len(pieces), max_size=len(pieces))))
    counts = np.array(data.draw(st.lists(st.integers(1, 9), min_size=len(words), max_size=len(words))))
    dropped = np.array([False] * 3 + [data.draw(st.booleans()) for _ in several], np.bool_)
    lattice, others = Lattice(words, pieces, longest=4), Lattice(words, pieces, longest=4, whole=False)
    if data.draw(st.booleans()):
        lattice.without(dropped)
        others.without(dropped)
        pieces = {piece: n for piece, n in pieces.items() if not dropped[n]}
    wanted = np.zeros(len(scores))
    for word, times in zip(words, counts, strict=True):
        found = ways(word, pieces)
        weights = [math.exp(sum(scores[n] for n in way)) for way in found]
        for way, weight in zip(found, weights, strict=True):
            for n in way:
                wanted[n] += times * weight / sum(weights)
    np.testing.assert_allclose(lattice.expected(scores, counts), wanted, atol=1e-9)
    best = [
        max((sum(scores[n] for n in way) for way in ways(word, pieces, whole=False)), default=-math.inf)
        for word in words
    ]
    np.testing.assert_allclose(others.best(scores), best, atol=1e-9)


def test_it_is_numbered_as_albert_is() -> None:
    tokenizer = trained()
    assert tokenizer.pieces()[:5] == list(SPECIALS)
    known = tokenizer.vocabulary
    assert (known.pad, known.unk, known.cls, known.sep, known.mask) == (0, 1, 2, 3, 4)
    assert (known.between, known.second_segment) == ((3,), 1)
    assert known.size <= 120
    assert set(known.replaceable) == set(range(5, known.size))


def test_words_that_come_again_are_pieces() -> None:
    text = "我们使用语言模型，学习 Learning"
    pieces = trained().encode(text)
    shown = [text[a:b] for a, b in zip(pieces.starts, pieces.ends, strict=True)]
    assert shown[:5] == ["我们", "使用", "语言", "模型", "，"]
    assert "".join(shown) == text.replace(" ", "")


def test_a_literal_special_piece_is_text_like_any_other() -> None:
    for lowercase in (True, False):
        tokenizer = trained(size=160, lowercase=lowercase)
        ids = tokenizer.plain().encode("[MASK] <pad> [CLS]").ids
        assert min(ids) >= len(SPECIALS)
        assert tokenizer.encode("[MASK]").ids.tolist() == [4]


_ONE = trained()


@settings(max_examples=40, deadline=None)
@given(odd_text)
def test_places_never_fall(text: str) -> None:
    pieces = _ONE.plain().encode(text)
    assert all(a <= b for a, b in zip(pieces.starts, pieces.ends, strict=True))
    assert (sorted(pieces.starts), sorted(pieces.ends)) == (list(pieces.starts), list(pieces.ends))


def test_the_order_of_texts_does_not_matter() -> None:
    assert trained(TEXTS[::-1]).files == _ONE.files


def test_mistakes_are_told() -> None:
    with pytest.raises(
        RecipeError, match=r"characters that make 99\.95% of the text: a size of \d+ is the least"
    ):
        trained(size=20)
    with pytest.raises(DataError, match="no text"):
        trained([" \n"])
