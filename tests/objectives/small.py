"""A vocabulary of numbers and documents made of them."""

from __future__ import annotations

import numpy as np

from fenghuo.corpus.shards import Example
from fenghuo.text.tokenizer import Vocabulary

FIRST = 10
"""Ids 0–4 are special, 5–9 unused; the rest may be drawn."""


def vocabulary(*, roberta: bool = False) -> Vocabulary:
    return Vocabulary(
        size=200,
        pad=0,
        unk=1,
        cls=2,
        sep=3,
        mask=4,
        between=(3, 3) if roberta else (3,),
        second_segment=0 if roberta else 1,
        replaceable=np.arange(FIRST, 200),
    )


def example(
    sentences: list[int], *, index: int = 0, document: int = 0, documents: list[int] | None = None
) -> Example:
    """A slice of sentences of given lengths, in words of two pieces; `documents` are places where one begins."""
    total = sum(sentences)
    starts = np.cumsum([0, *sentences[:-1]])
    sentence_start = np.isin(np.arange(total), starts)
    word_start = np.zeros(total, np.bool_)
    for start, length in zip(starts, sentences, strict=True):
        word_start[start : start + length : 2] = True
    draw = np.random.default_rng((17, index))
    return Example(
        pieces=draw.integers(FIRST, 200, total),
        word_start=word_start,
        sentence_start=sentence_start,
        document_start=np.isin(np.arange(total), [0] if documents is None else documents),
        document=document,
        index=index,
    )


class Documents:
    """Examples of one to four sentences, three to a document."""

    def __init__(self, number: int, per_document: int = 3) -> None:
        self.number, self.per_document = number, per_document
        self.made: dict[int, Example] = {}

    @property
    def documents(self) -> int:
        return -(-self.number // self.per_document)

    @property
    def max_pieces(self) -> int:
        return 32

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Example:
        if index not in self.made:
            draw = np.random.default_rng((3, index))
            lengths = draw.integers(2, 9, draw.integers(1, 5)).tolist()
            self.made[index] = example(lengths, index=index, document=index // self.per_document)
        return self.made[index]
