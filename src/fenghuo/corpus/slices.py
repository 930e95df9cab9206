"""Documents → slices of at most so many pieces, and the index of them that is kept beside the shards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fenghuo.corpus.format import Shard, bits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from fenghuo.corpus.batch import Packing

    Cuts = tuple[NDArray[np.uint32], NDArray[np.int32]]

Split = Literal["train", "heldout"]


@dataclass(frozen=True, slots=True)
class Slices:
    """All slices of a split, shard by shard, in the order of the text; memory-mapped where the disk allows it."""

    begins: NDArray[np.uint32]  # (n,) first piece of each, in its shard
    lengths: NDArray[np.int32]  # (n,) and a place for [SEP] before each further document
    first: NDArray[np.int64]  # (shards + 1,) number of each shard's first slice
    pieces: int  # sum of all lengths


def cut(shard: Shard, max_pieces: int, split: Split, packing: Packing = "doc-sentences") -> Cuts:
    """The slices of one shard: (begins, lengths).

    doc-sentences: a document of at most `max_pieces` is one slice. A longer one is cut at the last sentence that
    begins within reach, again and again, so neighbouring short sentences share a slice. Where a sentence is longer
    than that, at the last word that begins within reach; a longer word is cut anywhere.

    full-sentences: the documents of the split stand one after another, with a place for `[SEP]` between two, and
    this row is cut in the same way; no place is kept where a slice ends with its document.

    Source: both are RoBERTa's (arXiv 1907.11692, §4.2), whose DOC-SENTENCES too never mix documents.
    """
    wanted = shard.heldout if split == "heldout" else ~shard.heldout
    sentences = np.flatnonzero(bits_of(shard.sentence_bits, 0, len(shard.pieces)))
    offsets = shard.offsets.astype(np.int64)
    if packing == "full-sentences":
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


def open_slices(
    folder: Path,
    fingerprints: Sequence[str],
    open_one: Callable[[int], Shard],
    max_pieces: int,
    split: Split,
    packing: Packing,
) -> Slices:
    """The slices of all shards of a folder, from the index kept there, which is made when absent.

    Args:
        fingerprints: of each shard.
        open_one: number of a shard → the shard.
    """
    digest = hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()[:12]
    home = folder / "slices" / f"{packing}-{max_pieces}-{split}-{digest}"
    if not home.is_dir():
        shards = range(len(fingerprints))
        try:
            _keep(home, (cut(open_one(number), max_pieces, split, packing) for number in shards))
        except OSError:  # a read-only or full disk: the index lives as long as this process
            return _held([cut(open_one(number), max_pieces, split, packing) for number in shards])
    counts = json.loads((home / "counts.json").read_bytes())
    return Slices(
        begins=_mapped(home / "begins.u32", np.uint32),
        lengths=_mapped(home / "lengths.i32", np.int32),
        first=np.concatenate([[0], np.cumsum(counts["slices"])]).astype(np.int64),
        pieces=sum(counts["pieces"]),
    )


def _keep(home: Path, cuts: Iterator[Cuts]) -> None:
    home.parent.mkdir(exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    try:
        counts: dict[str, list[int]] = {"slices": [], "pieces": []}
        with (beside / "begins.u32").open("wb") as begins, (beside / "lengths.i32").open("wb") as lengths:
            for shard_begins, shard_lengths in cuts:
                begins.write(shard_begins.tobytes())
                lengths.write(shard_lengths.tobytes())
                counts["slices"].append(len(shard_begins))
                counts["pieces"].append(int(shard_lengths.sum(dtype=np.int64)))
        (beside / "counts.json").write_text(json.dumps(counts))
        beside.chmod(0o755)
        with suppress(OSError):  # another rank was quicker: its index is the same
            os.rename(beside, home)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _held(cuts: Sequence[Cuts]) -> Slices:
    first = np.cumsum([0, *(len(begins) for begins, _ in cuts)])
    lengths = np.concatenate([lengths for _, lengths in cuts])
    return Slices(
        begins=np.concatenate([begins for begins, _ in cuts]),
        lengths=lengths,
        first=first.astype(np.int64),
        pieces=int(lengths.sum(dtype=np.int64)),
    )


def _mapped(path: Path, kind: type[np.generic]) -> NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
