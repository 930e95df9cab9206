"""Counted words of a text without blanks, in bounded memory: what byte pairs and unigram pieces are learnt from.

A trainer that cuts text at blanks and marks alone takes each Chinese clause for a word: its table grows with the text,
and it learns pieces that run across words (的时候, 了一个). So ideographs are cut by the segmenter too. A tokenizer
has no segmenter: what it finds in a text are pieces of words, wherever they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fenghuo.errors import DataError
from fenghuo.text.tokenizer import clean_characters
from fenghuo.text.vocabulary import bounded, joined_up
from fenghuo.text.words import ideograph_edges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fenghuo.text.words import Segmenter

# As the byte-level pre-tokenizer of GPT-2 and RoBERTa cuts, which cuts these words again: what it finds here and there
# beyond Python's classes of characters costs nothing.
_WORD = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
_LONGEST_WORD = 64  # characters; a longer one is an address, a hash or a line of signs


def count_words(
    texts: Iterable[str], segmenter: Segmenter, normalize: Callable[[str], str] | None = None
) -> dict[str, int]:
    """How often each word occurs, a blank before it included; in the order of their spelling.

    Where there are more than a million distinct words, the rarer half is forgotten: of what occurs often nothing is
    lost but what came in while it was rare.

    Args:
        normalize: what the tokenizer does to characters before it cuts.

    Raises:
        DataError: there is no text.
    """
    words: Counter[str] = Counter()
    for text in joined_up(texts):
        clean = clean_characters(text)
        words.update(_words(clean if normalize is None else normalize(clean), segmenter))
        words = bounded(words)
    if not any(word.strip() for word in words):
        raise DataError("no text to learn a vocabulary from")
    return dict(sorted(words.items()))


def _words(text: str, segmenter: Segmenter) -> Iterator[str]:
    starts = np.array([match.start() for match in _WORD.finditer(text)], np.int64)
    edges = np.union1d(starts, ideograph_edges(segmenter, text)).tolist()
    for begin, end in pairwise([*edges, len(text)]):
        if end - begin <= _LONGEST_WORD:
            yield text[begin:end]
