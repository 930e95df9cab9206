"""A finished corpus as examples: the loader's source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fenghuo.corpus.format import Shard, bits_of, open_shard, read_manifest
from fenghuo.corpus.index import Index
from fenghuo.corpus.slices import Cutting
from fenghuo.errors import DamagedError
from fenghuo.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from fenghuo.corpus.batch import Packing
    from fenghuo.corpus.slices import Split


_OPEN_SHARDS = 512  # each holds a file descriptor, of which a process often gets 1,024


@dataclass(frozen=True, slots=True)
class Example:
    """A slice of the corpus, without special pieces."""

    pieces: NDArray[np.int64]  # (n,)
    word_start: NDArray[np.bool_]  # (n,); the first is True, also where a long word was cut
    sentence_start: NDArray[np.bool_]  # (n,)
    document_start: NDArray[np.bool_]  # (n,); a slice of one document has at most its first
    document: int  # number of the document its first piece is of
    index: int


class ShardSource:
    """The slices of a corpus's documents, in the order of the text.

    Slices are cut at sentence ends (see `corpus.slices.cut`), and enumerated once, in an index that is kept in the
    corpus's folder and memory-mapped: an example is found without reading others.

    Args:
        corpus_run: run folder of `fenghuo corpus`.
        max_pieces: of a slice, special pieces not counted but those between documents.
        split: `heldout` gives the documents kept out of training.
        packing: `doc-sentences` are of one document, `full-sentences` go on into the next one of the shard.

    Raises:
        DataError: the folder holds no finished corpus.
        DamagedError: a shard is not what was written.
        DiskError: the index cannot be kept.
    """

    def __init__(
        self,
        corpus_run: Path,
        *,
        max_pieces: int,
        split: Split = "train",
        packing: Packing = "doc-sentences",
    ) -> None:
        if max_pieces < 1:
            raise ValueError(f"max_pieces {max_pieces} leaves no room for text")
        index = Index(corpus_run, [cutting := Cutting(max_pieces, split, packing)])
        folder, lines = index.folder, index.lines
        self._again = partial(type(self), corpus_run, max_pieces=max_pieces, split=split, packing=packing)

        @lru_cache(maxsize=_OPEN_SHARDS)
        def shard(number: int) -> Shard:
            return open_shard(folder / lines[number].file)

        self.max_pieces = max_pieces
        self._shard = shard
        self._files = [line.file for line in lines]
        self._is_heldout = split == "heldout"
        self._slices = index.slices(cutting)
        self.lengths: NDArray[np.int32] = self._slices.lengths
        self.pieces = int(self._slices.before[-1])
        self.documents: int = sum(
            line.heldout_documents if self._is_heldout else line.documents - line.heldout_documents
            for line in lines
        )

    @classmethod
    def of(cls, corpus_run: Path, cutting: Cutting) -> ShardSource:
        """The slices cut so."""
        return cls(corpus_run, max_pieces=cutting.max_pieces, split=cutting.split, packing=cutting.packing)

    def __reduce__(self) -> Any:
        """Another process maps the files itself."""
        return self._again, ()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        number = int(np.searchsorted(self._slices.first, index, side="right")) - 1
        shard, begin = self._shard(number), int(self._slices.begins[index])
        # As an int32: numpy would first make all offsets int64.
        document = int(np.searchsorted(shard.offsets, np.int32(begin), side="right")) - 1
        parts = list(self._parts(shard, document, begin, int(self.lengths[index])))
        word_start = np.concatenate([bits_of(shard.word_bits, *part) for part in parts])
        document_start = np.zeros(len(word_start), np.bool_)
        document_start[np.cumsum([0, *(end - first for first, end in parts[:-1])])] = True
        document_start[0] = begin == shard.offsets[document]
        word_start[0] = True
        return Example(
            pieces=np.concatenate([shard.pieces[slice(*part)] for part in parts]).astype(np.int64),
            word_start=word_start,
            sentence_start=np.concatenate([bits_of(shard.sentence_bits, *part) for part in parts]),
            document_start=document_start,
            document=(number << 32) + document,
            index=index,
        )

    def _parts(self, shard: Shard, document: int, begin: int, length: int) -> Iterator[tuple[int, int]]:
        """Where a slice's pieces lie, document by document; between two, one of its length is `[SEP]`'s."""
        while True:
            end = min(int(shard.offsets[document + 1]), begin + length)
            yield begin, end
            length -= end - begin + 1
            if length <= 0:
                return
            document += 1
            while (
                bits_of(shard.heldout_bits, document, document + 1)[0] != self._is_heldout
                or shard.offsets[document] == shard.offsets[document + 1]
            ):
                document += 1
            begin = int(shard.offsets[document])

    def holding(self, pieces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The examples that hold some pieces, counted through the split, and the pieces' places in them.

        Args:
            pieces: (n,) in 0 … self.pieces - 1; a place of `[SEP]` between documents counts.
        """
        return self._slices.holding(pieces)

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
