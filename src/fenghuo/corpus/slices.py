"""Documents → slices of at most so many pieces."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fenghuo.corpus.format import Shard, bits_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fenghuo.corpus.batch import Packing

    Cuts = tuple[NDArray[np.uint32], NDArray[np.int32]]

Split = Literal["train", "heldout"]


@dataclass(frozen=True, slots=True)
class Cutting:
    """Which documents are cut, and how (see `cut`)."""

    max_pieces: int
    split: Split = "train"
    packing: Packing = "doc-sentences"


@dataclass(frozen=True, slots=True)
class Slices:
    """All slices of a split, shard by shard, in the order of the text; memory-mapped."""

    begins: NDArray[np.uint32]  # (n,) first piece of each, in its shard
    lengths: NDArray[np.int32]  # (n,) and a place for [SEP] before each further document
    first: NDArray[np.int64]  # (shards + 1,) number of each shard's first slice
    before: NDArray[np.int64]  # (shards + 1,) sum of the lengths of all slices before each shard's

    def holding(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The slices that hold some pieces, counted through the split from 0, and the pieces' places in them.

        Only lengths of those shards are read, one shard at a time.
        """
        slices, places = np.empty_like(numbers), np.empty_like(numbers)
        shards = np.searchsorted(self.before, numbers, side="right") - 1
        for shard in np.unique(shards).tolist():
            here = shards == shard
            lengths = self.lengths[self.first[shard] : self.first[shard + 1]].astype(np.int64)
            ends = self.before[shard] + np.cumsum(lengths)
            at = np.searchsorted(ends, numbers[here], side="right")
            slices[here], places[here] = self.first[shard] + at, numbers[here] - (ends - lengths)[at]
        return slices, places


def cut(shard: Shard, cutting: Cutting) -> Cuts:
    """The slices of one shard: (begins, lengths).

    doc-sentences: a document of at most `max_pieces` is one slice. A longer one is cut at the last sentence that
    begins within reach, again and again, so neighbouring short sentences share a slice. Where a sentence is longer
    than that, at the last word that begins within reach; a longer word is cut anywhere.

    full-sentences: the documents of the split stand one after another, with a place for `[SEP]` between two, and
    this row is cut in the same way; no place is kept where a slice ends with its document.

    Source: both are RoBERTa's (arXiv 1907.11692, §4.2), whose DOC-SENTENCES too never mix documents.
    """
    heldout = bits_of(shard.heldout_bits, 0, len(shard.offsets) - 1)
    wanted, max_pieces = heldout if cutting.split == "heldout" else ~heldout, cutting.max_pieces
    sentences = np.flatnonzero(bits_of(shard.sentence_bits, 0, len(shard.pieces)))
    offsets = shard.offsets.astype(np.int64)
    if cutting.packing == "full-sentences":
        return _cut_row(offsets, wanted, max_pieces, sentences, shard.word_bits)
    begins, ends = offsets[:-1][wanted], offsets[1:][wanted]
    is_long = ends - begins > max_pieces
    edges = sentences.tolist()
    found = list(zip(begins[~is_long].tolist(), ends[~is_long].tolist(), strict=True))
    for begin, end in zip(begins[is_long].tolist(), ends[is_long].tolist(), strict=True):
        found += _cut_document(begin, end, max_pieces, edges, shard.word_bits)
    bounds = np.array(sorted(found), np.int64).reshape(-1, 2)
    return bounds[:, 0].astype(np.uint32), (bounds[:, 1] - bounds[:, 0]).astype(np.int32)


def _cut_document(
    begin: int, end: int, max_pieces: int, sentences: Sequence[int], word_bits: NDArray[np.uint8]
) -> Iterator[tuple[int, int]]:
    while end - begin > max_pieces:
        at = sentences[bisect_right(sentences, begin + max_pieces) - 1]
        if at <= begin:
            at = begin + _words_within(begin, max_pieces, word_bits)
        yield begin, at
        begin = at
    yield begin, end


def _words_within(begin: int, max_pieces: int, word_bits: NDArray[np.uint8]) -> int:
    """How many pieces from `begin` on end with a word; all of them where one word is longer than that."""
    words = np.flatnonzero(bits_of(word_bits, begin + 1, begin + max_pieces + 1))
    return 1 + int(words[-1]) if len(words) else max_pieces


def _cut_row(
    offsets: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    max_pieces: int,
    sentences: NDArray[np.int64],
    word_bits: NDArray[np.uint8],
) -> Cuts:
    """Documents one after another as one row of places, in which a place stands free before each but the first."""
    documents = np.flatnonzero(wanted & (np.diff(offsets) > 0))
    if not len(documents):
        return np.zeros(0, np.uint32), np.zeros(0, np.int32)
    first, sizes = offsets[documents], offsets[documents + 1] - offsets[documents]
    place = np.cumsum(sizes + 1) - (sizes + 1)
    shift = place - first  # from a piece to its place
    of = np.searchsorted(first, sentences, side="right") - 1
    inside = (of >= 0) & (sentences < (first + sizes)[of])
    starts = np.union1d(place, (sentences + shift[of])[inside])
    ends = starts - np.isin(starts, place)
    stop = int(place[-1] + sizes[-1])
    begins, lengths = [], []
    start_at, end_at = [*starts.tolist(), stop + 1], [*ends.tolist(), stop]
    begin = 0
    while begin < stop:
        edge = bisect_right(end_at, begin + max_pieces) - 1
        if end_at[edge] > begin:
            end, following = end_at[edge], start_at[edge]
        else:
            piece = begin - int(shift[np.searchsorted(place, begin, side="right") - 1])
            end = following = begin + _words_within(piece, max_pieces, word_bits)
        begins.append(begin)
        lengths.append(end - begin)
        begin = following
    at = np.array(begins, np.int64)
    at -= shift[np.searchsorted(place, at, side="right") - 1]
    return at.astype(np.uint32), np.array(lengths, np.int32)
