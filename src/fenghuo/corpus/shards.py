"""A finished corpus as examples: the loader's source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fenghuo.corpus.format import Shard, bits_of, open_shard, read_manifest, verify
from fenghuo.corpus.slices import open_slices
from fenghuo.errors import DamagedError
from fenghuo.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fenghuo.corpus.slices import Split


_OPEN_SHARDS = 512  # each holds a file descriptor, of which a process often gets 1,024


@dataclass(frozen=True, slots=True)
class Example:
    """A slice of a document, without special pieces."""

    pieces: NDArray[np.int64]  # (n,)
    word_start: NDArray[np.bool_]  # (n,); the first is True, also where a long word was cut
    sentence_start: NDArray[np.bool_]  # (n,)
    index: int


class ShardSource:
    """The slices of a corpus's documents, in the order of the text.

    Documents longer than `max_pieces` are cut at sentence ends (see `corpus.slices.cut`). Slices are enumerated
    once, in an index that is kept in the corpus's folder and memory-mapped.

    Args:
        corpus_run: run folder of `fenghuo corpus`.
        max_pieces: of a slice, special pieces not counted.
        split: `heldout` gives the documents kept out of training.

    Raises:
        DataError: the folder holds no finished corpus.
        DamagedError: a shard is not what was written.
    """

    def __init__(self, corpus_run: Path, *, max_pieces: int, split: Split = "train") -> None:
        if max_pieces < 1:
            raise ValueError(f"max_pieces {max_pieces} leaves no room for text")
        folder = corpus_run / "shards"
        _, lines = read_manifest(folder)
        verify(folder, lines)

        @lru_cache(maxsize=_OPEN_SHARDS)
        def shard(number: int) -> Shard:
            return open_shard(folder / lines[number].file)

        self._shard = shard
        self._files = [line.file for line in lines]
        self._slices = open_slices(folder, [line.sha256 for line in lines], shard, max_pieces, split)
        self.lengths: NDArray[np.int32] = self._slices.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        shard = self._shard(int(np.searchsorted(self._slices.first, index, side="right")) - 1)
        begin = int(self._slices.begins[index])
        end = begin + int(self.lengths[index])
        word_start = bits_of(shard.word_bits, begin, end)
        word_start[0] = True
        return Example(
            pieces=shard.pieces[begin:end].astype(np.int64),
            word_start=word_start,
            sentence_start=bits_of(shard.sentence_bits, begin, end),
            index=index,
        )

    def describe(self, index: int) -> dict[str, int | str]:
        """Where an example stands: its number, its shard's file, its first piece there and how many it has."""
        shard = int(np.searchsorted(self._slices.first, index, side="right")) - 1
        return {
            "index": index,
            "shard": self._files[shard],
            "begin": int(self._slices.begins[index]),
            "pieces": int(self.lengths[index]),
        }


def corpus_file(corpus_run: Path) -> Path:
    """The one file whose fingerprint stands for the whole corpus, since it holds that of every shard."""
    return corpus_run / "shards" / "manifest.json"


def corpus_tokenizer(corpus_run: Path) -> Tokenizer:
    """The tokenizer a corpus was made with. Raises DataError, DamagedError, ModelError."""
    fingerprints, _ = read_manifest(corpus_run / "shards")
    tokenizer = Tokenizer.load(corpus_run / "tokenizer")
    if tokenizer.fingerprint != fingerprints["tokenizer"]:
        raise DamagedError(
            f"{corpus_run / 'tokenizer'}: tokenizer {tokenizer.fingerprint} is not the one the shards were made "
            f"with, {fingerprints['tokenizer']}"
        )
    return tokenizer
