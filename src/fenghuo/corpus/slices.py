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

    Cuts = tuple[NDArray[np.uint32], NDArray[np.int32]]

Split = Literal["train", "heldout"]


@dataclass(frozen=True, slots=True)
class Slices:
    """All slices of a split, shard by shard, in the order of the text; memory-mapped where the disk allows it."""

    begins: NDArray[np.uint32]  # (n,) first piece of each, in its shard
    lengths: NDArray[np.int32]  # (n,)
    first: NDArray[np.int64]  # (shards + 1,) number of each shard's first slice


def cut(shard: Shard, max_pieces: int, split: Split) -> Cuts:
    """The slices of one shard: (begins, lengths).

    A document of at most `max_pieces` is one slice. A longer one is cut at the last sentence that begins within
    reach, again and again, so neighbouring short sentences share a slice. Where a sentence is longer than that, at
    the last word that begins within reach; a longer word is cut anywhere.
    """
    wanted = shard.heldout if split == "heldout" else ~shard.heldout
    offsets = shard.offsets.astype(np.int64)
    begins, ends = offsets[:-1][wanted], offsets[1:][wanted]
    is_long = ends - begins > max_pieces
    sentences = np.flatnonzero(bits_of(shard.sentence_bits, 0, len(shard.pieces))).tolist()
    found = list(zip(begins[~is_long].tolist(), ends[~is_long].tolist(), strict=True))
    for begin, end in zip(begins[is_long].tolist(), ends[is_long].tolist(), strict=True):
        found += _cut_document(begin, end, max_pieces, sentences, shard.word_bits)
    bounds = np.array(sorted(found), np.int64).reshape(-1, 2)
    return bounds[:, 0].astype(np.uint32), (bounds[:, 1] - bounds[:, 0]).astype(np.int32)


def _cut_document(
    begin: int, end: int, max_pieces: int, sentences: Sequence[int], word_bits: NDArray[np.uint8]
) -> Iterator[tuple[int, int]]:
    while end - begin > max_pieces:
        limit = begin + max_pieces
        at = sentences[bisect_right(sentences, limit) - 1]
        if at <= begin:
            words = np.flatnonzero(bits_of(word_bits, begin + 1, limit + 1))
            at = begin + 1 + int(words[-1]) if len(words) else limit
        yield begin, at
        begin = at
    yield begin, end


def open_slices(
    folder: Path, fingerprints: Sequence[str], open_one: Callable[[int], Shard], max_pieces: int, split: Split
) -> Slices:
    """The slices of all shards of a folder, from the index kept there, which is made when absent.

    Args:
        fingerprints: of each shard.
        open_one: number of a shard → the shard.
    """
    digest = hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()[:12]
    home = folder / "slices" / f"{max_pieces}-{split}-{digest}"
    if not home.is_dir():
        cuts = (cut(open_one(number), max_pieces, split) for number in range(len(fingerprints)))
        try:
            _keep(home, cuts)
        except OSError:  # a read-only or full disk: the index lives as long as this process
            return _held([cut(open_one(number), max_pieces, split) for number in range(len(fingerprints))])
    counts = json.loads((home / "counts.json").read_bytes())
    return Slices(
        begins=_mapped(home / "begins.u32", np.uint32),
        lengths=_mapped(home / "lengths.i32", np.int32),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _keep(home: Path, cuts: Iterator[Cuts]) -> None:
    home.parent.mkdir(exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    try:
        counts = []
        with (beside / "begins.u32").open("wb") as begins, (beside / "lengths.i32").open("wb") as lengths:
            for shard_begins, shard_lengths in cuts:
                begins.write(shard_begins.tobytes())
                lengths.write(shard_lengths.tobytes())
                counts.append(len(shard_begins))
        (beside / "counts.json").write_text(json.dumps(counts))
        beside.chmod(0o755)
        with suppress(OSError):  # another rank was quicker: its index is the same
            os.rename(beside, home)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _held(cuts: Sequence[Cuts]) -> Slices:
    first = np.cumsum([0, *(len(begins) for begins, _ in cuts)])
    return Slices(
        begins=np.concatenate([begins for begins, _ in cuts]),
        lengths=np.concatenate([lengths for _, lengths in cuts]),
        first=first.astype(np.int64),
    )


def _mapped(path: Path, kind: type[np.generic]) -> NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
