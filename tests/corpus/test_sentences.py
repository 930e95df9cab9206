"""Sentences begin where a reader would say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.corpus.sentences import _ends, sentence_starts


def starts_of(text: str) -> list[int]:
    places = np.array([i for i, c in enumerate(text) if not c.isspace()], np.int32)
    return [int(place) for place in places[sentence_starts(places, text)]]


@pytest.mark.parametrize(
    "sentences",
    [
        ["一句。", "两句！", "三句？", "四句"],
        ["他说：“走吧。”", "然后走了。"],
        ["“走吧！”，他说。", "（真的？）；好。"],
        ["真的吗？！", "真的……", "好"],
        ["（他说。）。", "好。"],
        ["一行\n\n", "两行"],
        ["约3.14米。", "e.g. this one. ", "Next one. ", "中文"],
        ["1. 先打开文件。", "2. 再保存。"],
        ["步骤：\n", "1. Open it. ", "Then close it."],
        ["It was in 2004. ", "Then came 3.5 of 10. ", "End"],
        ["Dr. Smith met J. R. Jones at No. 5, see Fig. 2 vs. Table 3. ", "They left."],
        ["He works for Apple Inc. ", "She does not, etc. ", "So."],
        ["Yahoo! is old. ", "See a.cn/b?c=1&d=2 now. ", "Wait… what? ", "Yes!! ", "No"],
        ["“Why?” she said. ", "“Because.” ", "Then he left…"],
        ["「はい。」と言った。", "「いいえ！」", "彼は帰った。", "そうか？", "はい｡", "ええ"],
        ["「はい。!」と言った。", "見て！", "a"],
        ["Он пришёл. ", "А. С. Пушкин жил в г. Москва. ", "Да? ", "Нет!"],
        ["هل هذا صحيح؟ ", "نعم. ", "هذا كتاب۔ ", "انتهى"],
        ["यह किताब है। ", "वह घर है॥ ", "और"],
        ["ይህ መጽሐፍ ነው። ", "አዎ"],
        ["Это г. Тула и т. д. по списку. ", "Всё."],
        ["Das ist z.B. Wien. ", "Élan vital. ", "Österreich."],
        ["她选了A。", "B呢？", "C！", "D"],
    ],
)
def test_sentences(sentences: list[str]) -> None:
    text = "".join(sentences)
    first = [*starts_of(text), len(text)]
    assert [text[a:b] for a, b in pairwise(first)] == sentences


@pytest.mark.parametrize("marks", ["?", "!?", "。", "。!", "…", "."])
@pytest.mark.parametrize("after", ["a", "，", " b", "下"])
def test_a_long_line_of_marks_is_looked_at_once(marks: str, after: str) -> None:
    """From each of 200,000 marks anew, it would take minutes."""
    text = "一句" + marks * (200_000 // len(marks)) + after
    assert len(list(_ends(text))) <= 1


def test_nothing() -> None:
    assert starts_of("") == []


MARKS = [
    *"。！？!?….;,，：:\n \"'”’」』)）“「(",
    "Mr.",
    "e.g.",
    "3.14",
    "word",
    "Ünï",
    "中文",
    "と",
    "слово",
    "।",
    "؟",
    "1",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(MARKS), max_size=40).map("".join))
def test_starts_are_places_in_order_and_in_no_word(text: str) -> None:
    found = starts_of(text)
    assert found == sorted(set(found))
    assert found[:1] == [i for i, c in enumerate(text) if not c.isspace()][:1]
    for place in found[1:]:
        before, here = text[place - 1], text[place]
        assert not (before.isalnum() and before.isascii() and here.isalnum() and here.isascii())
        assert here not in "，,：:；;" or before in "\n ,"
        assert not (text[:place].rstrip(" ")[-1:].isalnum() and "\n" not in text[:place][-2:])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    places = np.arange(len(text), dtype=np.int32)
    found = sentence_starts(places, text)
    assert found.shape == places.shape
    assert found[:1].all()
