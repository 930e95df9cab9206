"""Real text with hidden words as flat batches, from the package that the demo reads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from fenghuo.corpus.loader import collate
from fenghuo.corpus.shards import Example
from fenghuo.demo.data import find_sources
from fenghuo.demo.newspaper import read_paragraphs
from fenghuo.objectives.mlm import MaskedLanguageModel
from fenghuo.objectives.objective import Questions
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary
from fenghuo.text.words import load_segmenter, spans_of_joined, word_starts

VOCABULARY = 21_128
SPECIALS = 2  # [CLS] and [SEP] around each example


@cache
def texts() -> list[str]:
    """Reviews (73 characters on average) and newspaper paragraphs (95), as they come when shuffled."""
    sources = find_sources()
    found = [line for name in ("neg", "pos") for line in sources[f"sentiment/{name}.txt"].split("\n")]
    found += [paragraph.text for paragraph in read_paragraphs(sources["tag/199801.txt"].split("\n"))]
    found = [text.strip() for text in found if text.strip()]
    random.Random(0).shuffle(found)
    return found


@cache
def tokenizer() -> Tokenizer:
    return train_vocabulary(texts(), size=VOCABULARY)


def examples(kind: str, length: int) -> Iterator[Example]:
    """Documents of at most `length` pieces, longer ones cut; or blocks of exactly so many, across documents."""
    segmenter, room, number = load_segmenter("rjieba"), length - SPECIALS, 0
    left = np.zeros((2, 0), np.int64)
    for text in texts():
        pieces = tokenizer().encode(text)
        if not len(pieces):
            continue
        more = np.stack([pieces.ids, word_starts(pieces, spans_of_joined(segmenter, [text]), text)])
        left = np.concatenate([left, more], axis=1)
        while left.shape[1] >= room or (kind == "documents" and left.shape[1]):
            part, left = left[:, :room], left[:, room:]
            word_start = part[1].astype(np.bool_)
            word_start[0] = True
            none = np.zeros(part.shape[1], np.bool_)
            yield Example(part[0], word_start, none, none, number, number)
            number += 1


def batches(kind: str, length: int, *, pieces: int, count: int) -> list[dict[str, Any]]:
    """`count` batches of about `pieces` pieces each, 15 % of the words hidden.

    Documents are in each as they come: the loader would put those of similar length together, which suits both sides.
    """
    vocabulary = tokenizer().vocabulary
    questions = Questions([MaskedLanguageModel(vocabulary=vocabulary)], vocabulary)
    found: list[dict[str, Any]] = []
    waiting: list[Any] = []
    for example in examples(kind, length):
        waiting.append(questions.prepare(example, np.random.default_rng(example.index)))
        if sum(len(one["pieces"]) for one in waiting) >= pieces:
            found.append(collate(waiting))
            waiting = []
        if len(found) == count:
            break
    return found
