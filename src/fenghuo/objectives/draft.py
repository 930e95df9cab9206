"""An example on its way to a batch, and the special pieces around it. numpy only."""

# Shapes: n pieces of one framed example.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fenghuo.corpus.shards import Example
from fenghuo.text.tokenizer import Vocabulary

Arrays = dict[str, NDArray[Any]]
Part = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Pieces of a text and where their words begin."""


@dataclass(slots=True)
class Draft:
    """What the objectives of a run change in turn."""

    pieces: NDArray[np.int64]
    """(n,) as the model will see them, special pieces included; an objective may hide some."""
    word_start: NDArray[np.bool_]
    """(n,) a special piece is a word of its own, and a word begins after it."""
    fixed: NDArray[np.bool_]
    """(n,) True on special pieces: never hidden, never asked by a masking objective."""
    segments: NDArray[np.int64]
    """(n,)"""
    hidden: NDArray[np.bool_] = field(init=False)
    """(n,) chosen so far by a masking objective, also where the piece is shown as it stood or garbled."""
    arrays: Arrays = field(default_factory=dict)
    """What else the batch carries, under keys as `corpus.loader.collate` takes them (`…_at` are places)."""

    def __post_init__(self) -> None:
        self.hidden = np.zeros(len(self.pieces), dtype=np.bool_)


def frame_text(vocabulary: Vocabulary, example: Example) -> Draft:
    """`[CLS] text [SEP]`, in segment 0, with a `[SEP]` before each further document in it."""
    cuts = np.flatnonzero(example.document_start[1:]) + 1
    parts = zip(np.split(example.pieces, cuts), np.split(example.word_start, cuts), strict=True)
    return _framed(vocabulary, list(parts), (vocabulary.sep,), second_segment=0)


def frame_pair(vocabulary: Vocabulary, a: Part, b: Part) -> Draft:
    """`[CLS] a [SEP] b [SEP]` as the tokenizer has it: in RoBERTa `<s> a </s></s> b </s>`, all of one segment."""
    return _framed(vocabulary, [a, b], vocabulary.between, second_segment=vocabulary.second_segment)


def _framed(
    vocabulary: Vocabulary, parts: Sequence[Part], between: tuple[int, ...], *, second_segment: int
) -> Draft:
    ids: list[Any] = [[vocabulary.cls]]
    starts: list[Any] = [[True]]
    for number, (pieces, word_start) in enumerate(parts):
        ends = between if number + 1 < len(parts) else (vocabulary.sep,)
        begins = word_start.copy()
        begins[:1] = True
        ids += [pieces, ends]
        starts += [begins, [True] * len(ends)]
    sizes = [len(one) for one in ids]
    is_special = np.arange(len(ids)) % 2 == 0
    segments = np.zeros(sum(sizes), np.int64)
    segments[sum(sizes[:3]) :] = second_segment
    return Draft(
        pieces=np.concatenate(ids).astype(np.int64),
        word_start=np.concatenate(starts).astype(np.bool_),
        fixed=np.repeat(is_special, sizes),
        segments=segments,
    )
