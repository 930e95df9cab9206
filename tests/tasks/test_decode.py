"""Answers from logits: probabilities, spans by character, and windows that lose nothing."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tasks.bio import tags_of

from fenghuo.tasks.decode import (
    best_class,
    entities,
    join_tokens,
    numbers,
    softmax,
    spans_of,
    windows,
)

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def pieces_of(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of Chinese characters, Latin words cut in pieces of at most three letters, and other marks."""
    found = [match.span() for match in re.finditer(r"[A-Za-z0-9]{1,3}|\S", text)]
    starts, ends = zip(*found, strict=True) if found else ((), ())
    return np.array(starts, dtype=np.int32), np.array(ends, dtype=np.int32)


def logits_for(tags: list[str]) -> np.ndarray:
    logits = np.zeros((len(tags), len(LABELS)), dtype=np.float32)
    logits[np.arange(len(tags)), [LABELS.index(tag) for tag in tags]] = 5.0
    return logits


def test_softmax_of_huge_logits_is_finite_and_sums_to_one():
    share = softmax(np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -1e4]], dtype=np.float32))
    assert np.isfinite(share).all()
    np.testing.assert_allclose(share.sum(-1), 1)
    np.testing.assert_allclose(share[1], 1 / 3)


def test_best_class_names_the_likeliest_and_lists_the_rest_downwards():
    plain, full = (
        best_class(np.array([[0.0, 2.0, 1.0]]), ["a", "b", "c"], flag)[0] for flag in (False, True)
    )
    assert plain == {"label": "b", "score": 0.665241}
    assert list(full["scores"]) == ["b", "c", "a"]
    assert sum(full["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert full["scores"]["b"] == full["score"]


def test_numbers_are_told_as_they_are():
    assert numbers(np.array([[1.5], [-0.25]], dtype=np.float32)) == [{"score": 1.5}, {"score": -0.25}]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-PER I-PER O", [(1, 3, "PER")]),
        ("I-PER I-PER", [(0, 2, "PER")]),
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("O I-LOC O I-PER", [(1, 2, "LOC"), (3, 4, "PER")]),
        ("", []),
    ],
)
def test_broken_sequences_are_read_as_the_conll_scorer_reads_them(tags, spans):
    assert spans_of(tags.split()) == spans


@st.composite
def disjoint_spans(draw):
    edges = sorted(draw(st.sets(st.integers(0, 30), max_size=12)))
    return [
        (a, b, draw(st.sampled_from(["PER", "LOC"]))) for a, b in zip(edges[::2], edges[1::2], strict=False)
    ]


@given(disjoint_spans())
def test_spans_come_back_from_tags(spans):
    assert spans_of(tags_of(spans, 30)) == spans


@given(st.text(alphabet="北京大学ab1 。，\n😀", max_size=40), st.data())
def test_entities_of_any_tags_lie_in_the_text_apart_and_in_order(text, data):
    starts, ends = pieces_of(text)
    tags = data.draw(st.lists(st.sampled_from(LABELS), min_size=len(starts), max_size=len(starts)))
    found = entities(logits_for(tags), LABELS, starts, ends, text)

    assert len(found) == len(spans_of(tags))
    before = 0
    for entity in found:
        assert before <= entity["start"] < entity["end"] <= len(text)
        assert entity["text"] == text[entity["start"] : entity["end"]]
        assert entity["text"] == entity["text"].strip()
        assert 0 < entity["score"] <= 1
        before = entity["end"]
    covered = {i for e in found for i in range(e["start"], e["end"]) if not text[i].isspace()}
    tagged = {i for tag, a, b in zip(tags, starts, ends, strict=True) if tag != "O" for i in range(a, b)}
    assert tagged == covered & {i for a, b in zip(starts, ends, strict=True) for i in range(a, b)}


def test_the_score_of_an_entity_is_the_mean_of_its_pieces():
    logits = np.log(np.array([[0.1, 0.9, 0, 0, 0], [0.3, 0, 0.7, 0, 0]]) + 1e-12)
    starts, ends = pieces_of("张三")
    assert entities(logits, LABELS, starts, ends, "张三") == [
        {"start": 0, "end": 2, "label": "PER", "text": "张三", "score": 0.8}
    ]


def test_entities_that_share_a_character_do_not_overlap():
    starts, ends = np.array([0, 1, 1, 1, 2]), np.array([1, 2, 2, 2, 3])
    tags = ["B-PER", "I-PER", "B-LOC", "B-PER", "I-PER"]
    found = entities(logits_for(tags), LABELS, starts, ends, "김한나")
    assert [(e["start"], e["end"], e["label"]) for e in found] == [(0, 2, "PER"), (2, 3, "PER")]


@given(st.text(alphabet="北京大学abc12 。，！”\n", max_size=200), st.integers(1, 24))
def test_windows_keep_every_piece_once_and_show_its_surroundings(text, size):
    starts, ends = pieces_of(text)
    found = windows(text, starts, ends, size=size)

    kept = [i for window in found for i in range(window.keep_start, window.keep_stop)]
    assert kept == list(range(len(starts)))
    for window in found:
        assert 0 < window.stop - window.start <= size
        assert window.start <= window.keep_start < window.keep_stop <= window.stop
    for left, right in pairwise(found):
        overlaps = right.start < left.stop
        assert not overlaps or left.stop - left.keep_stop >= size // 8 <= right.keep_start - right.start


def test_windows_end_at_sentence_ends_where_they_can():
    text = "我在北京。" * 10
    found = windows(text, *pieces_of(text), size=12)
    assert [(w.start, w.stop) for w in found] == [(i, i + 10) for i in range(0, 50, 10)]


def test_a_closing_quote_stays_with_its_sentence():
    text = "他说：“走吧。”她没有动身"
    found = windows(text, *pieces_of(text), size=10)
    assert text[found[1].start] == "她"


def test_windows_of_one_long_sentence_meet_after_a_comma_or_between_words():
    text = "北京大学在海淀，" * 20
    for left in windows(text, *pieces_of(text), size=32)[:-1]:
        assert text[left.keep_stop - 1] == "，"
    english = "abcdefgh " * 20
    starts, ends = pieces_of(english)
    for left in windows(english, starts, ends, size=30)[:-1]:
        assert starts[left.keep_stop] > ends[left.keep_stop - 1]


@given(st.integers(0, 90), st.integers(1, 4), st.booleans())
def test_an_entity_across_a_boundary_is_read_whole(first, length, commas):
    """A tagger that sees only its window, put together again, finds what one with the whole text finds."""
    text = ("一二三四五六七八九，" if commas else "一二三四五六七八九十") * 10
    starts, ends = pieces_of(text)
    tags = tags_of([(first, first + length, "LOC")], len(starts))
    stitched: list[str] = []
    for window in windows(text, starts, ends, size=32):
        whole = window.start <= first and first + length <= window.stop
        seen = tags[window.start : window.stop] if whole else ["O"] * (window.stop - window.start)
        stitched += seen[window.keep_start - window.start : window.keep_stop - window.start]
    assert stitched == tags


def test_a_short_text_is_one_window_and_an_empty_one_none():
    assert [(w.start, w.stop) for w in windows("北京", *pieces_of("北京"), size=2)] == [(0, 2)]
    assert windows("  ", *pieces_of("  "), size=2) == []
    with pytest.raises(ValueError, match="holds nothing"):
        windows("北京", *pieces_of("北京"), size=0)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["北", "京"], "北京"),
        (["New", "York", "很", "大"], "New York很大"),
        (["Hello", ",", "world"], "Hello,world"),
        (["iPhone", "15", "发布"], "iPhone 15发布"),
        (["Привет", "мир"], "Привет мир"),
        (["カメラ", "店"], "カメラ店"),
        (["ab", "", "c"], "ab c"),
        (list("1998年NBA"), "1998年NBA"),
        ([], ""),
    ],
)
def test_tokens_join_with_a_space_only_between_latin_ones(tokens, text):
    assert join_tokens(tokens) == text
