"""Splitting reviews so that nothing held out is learned from, on texts made here."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.demo.overlap import GRAM, HeldOut, can_be_held_out, found_within, key
from fenghuo.demo.reviews import distinct, narrow, split_reviews
from fenghuo.errors import DataError

ALPHABET = "酒店房间很好差，。 Ａa"
texts = st.text(ALPHABET, max_size=30)
long_texts = st.text(ALPHABET.replace(" ", ""), min_size=GRAM, max_size=30)


def test_narrow_keeps_chinese_punctuation_and_length():
    assert narrow("１２．５％ＡＢｃ，好！（～）") == "12.5%ABc，好！（～）"


@given(texts)
def test_key_is_blind_to_width_case_and_blanks(text):
    assert key(narrow(text).upper().replace(" ", "\u3000")) == key(text)


@given(st.lists(long_texts, min_size=1, max_size=5), texts, texts)
def test_a_held_out_text_is_found_inside_any_other(held_out, before, after):
    index = HeldOut(held_out)
    assert all(index.near(before + text + after) for text in held_out)


def test_near_needs_half_of_the_shorter_text():
    index = HeldOut(["一二三四五六七八九十甲乙丙丁戊己"])  # 16 characters, 9 grams
    assert index.near("一二三四五六七八九十甲乙")  # a part of it
    assert not index.near("一二三四五六七八" + "子丑寅卯辰巳午未")  # 1 of 9 grams
    assert not index.near("")


def test_short_texts_cannot_be_held_out():
    with pytest.raises(ValueError, match="too short"):
        HeldOut(["优点：" + "　" * GRAM])


@given(st.lists(texts, max_size=8), st.lists(texts, max_size=8))
def test_found_within_agrees_with_looking_everywhere(sentences, read):
    wanted = {
        number
        for number, sentence in enumerate(sentences)
        if can_be_held_out(sentence) and any(key(sentence) in key(text) for text in read)
    }
    assert found_within(sentences, read) == wanted


def test_repeats_are_merged_and_contradictions_dropped():
    kept, removed = distinct({"positive": ["很 好", "一般", ""], "negative": ["很好", "差", "差", "一般"]})
    assert [(review.label, review.text) for review in kept] == [("negative", "差")]
    assert removed == {"repeated": 3, "both labels": 2}


def reviews(count: int) -> dict[str, list[str]]:
    rng = random.Random(5)
    alphabet = [chr(0x4E00 + n) for n in range(400)]
    made = {
        label: ["".join(rng.choices(alphabet, k=rng.randint(8, 60))) for _ in range(count)]
        for label in ("positive", "negative")
    }
    for label in made:  # copies with small changes, and fragments
        made[label] += [text + "！" for text in made[label][:40]] + ["优点：", "很好"]
    made["negative"].remove("很好")
    return made


def test_parts_share_nothing_and_larger_training_sets_keep_the_same_test():
    small = split_reviews(reviews(500), seed=1, train=100, dev=50, test=100)
    large = split_reviews(reviews(500), seed=1, train=None, dev=50, test=100)
    assert small.test == large.test
    assert small.dev == large.dev
    assert large.train[:100] == small.train
    for parts in (small, large):
        held_out = [review.text for review in parts.dev + parts.test]
        read = [review.text for review in parts.train] + parts.unlabelled
        assert not [text for text in held_out if any(text in other for other in read)]
        assert len({key(text) for text in held_out + read}) == len(held_out) + len(read)
        assert parts.removed["near a held-out review"] > 0
    assert "优点：" not in small.unlabelled  # both labels
    assert "很好" in small.unlabelled
    assert split_reviews(reviews(500), seed=2, train=100, dev=50, test=100).test != small.test


def test_too_few_reviews_is_said():
    with pytest.raises(DataError, match="too few"):
        split_reviews(reviews(20), seed=1, train=1000, dev=5, test=5)
