"""The bytes of a corpus: shards, their manifest, and whether they are what was written.

A shard is an Arrow IPC file of one record batch, a document a row; its schema's metadata says how it was made
and what it holds. It is memory-mapped, and read without a copy.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fenghuo.errors import DamagedError, DataError
from fenghuo.rundir import file_atomic, sha256_of, write_json

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
_META = b"fenghuo"


@dataclass(frozen=True, slots=True)
class Documents:
    """S documents with T pieces in all, on their way into a shard."""

    pieces: NDArray[Any]  # (T,) ids, of any whole-number type
    word_start: NDArray[np.bool_]  # (T,)
    sentence_start: NDArray[np.bool_]  # (T,)
    lengths: NDArray[np.int64]  # (S,)
    heldout: NDArray[np.bool_]  # (S,)
    sources: list[str]  # S
    signatures: NDArray[np.uint64]  # (S, 2), see `signature.signature`
    characters: NDArray[np.uint32]  # (S,) of the text

    def take(self, wanted: NDArray[np.bool_]) -> Documents:
        """Some of them, by (S,) bool."""
        pieces = np.repeat(wanted, self.lengths)
        return Documents(
            pieces=self.pieces[pieces],
            word_start=self.word_start[pieces],
            sentence_start=self.sentence_start[pieces],
            lengths=self.lengths[wanted],
            heldout=self.heldout[wanted],
            sources=[self.sources[place] for place in np.flatnonzero(wanted).tolist()],
            signatures=self.signatures[wanted],
            characters=self.characters[wanted],
        )


@dataclass(frozen=True, slots=True)
class ShardLine:
    """A shard's line in the manifest."""

    file: str
    size_bytes: int
    sha256: str
    documents: int
    heldout_documents: int
    pieces: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard, memory-mapped: views of its bytes, read-only."""

    pieces: NDArray[Any]  # (T,) uint16, or uint32 for a vocabulary above 65,536
    word_bits: NDArray[np.uint8]  # bit i % 8 of byte i // 8 is that of piece i
    sentence_bits: NDArray[np.uint8]
    offsets: NDArray[np.int32]  # (S + 1,): document d is pieces[offsets[d]:offsets[d + 1]]
    heldout_bits: NDArray[np.uint8]  # bit d % 8 of byte d // 8 is that of document d


def write_shard(
    path: Path, parts: Sequence[Documents], *, vocabulary_size: int, fingerprints: Mapping[str, str]
) -> ShardLine:
    """Write documents as one shard, atomically.

    Args:
        fingerprints: of `tokenizer` and `segmenter`.

    Raises:
        DiskError: the disk is full.
    """
    heldout = np.concatenate([part.heldout for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    offsets = _numbers(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    kind = smallest_kind(vocabulary_size)
    signatures = np.concatenate([part.signatures for part in parts])
    columns = {
        "pieces": _lists(offsets, _numbers(np.concatenate([part.pieces.astype(kind) for part in parts]))),
        "word_start": _lists(offsets, _bits(np.concatenate([part.word_start for part in parts]))),
        "sentence_start": _lists(offsets, _bits(np.concatenate([part.sentence_start for part in parts]))),
        "heldout": _bits(heldout),
        "source": _names([name for part in parts for name in part.sources]),
        "signature": pa.Array.from_buffers(pa.binary(16), len(heldout), [None, pa.py_buffer(signatures)]),
        "characters": _numbers(np.concatenate([part.characters for part in parts])),
    }
    counts = {
        "documents": len(heldout),
        "heldout_documents": int(heldout.sum()),
        "pieces": int(lengths.sum()),
    }
    about = json.dumps({"format": FORMAT, **fingerprints, **counts}, sort_keys=True)
    schema = pa.schema([(name, column.type) for name, column in columns.items()], {_META: about})
    with file_atomic(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    return ShardLine(file=path.name, size_bytes=path.stat().st_size, sha256=sha256_of(path), **counts)


def smallest_kind(vocabulary_size: int) -> type[np.unsignedinteger[Any]]:
    """The type in which a shard keeps ids."""
    return np.uint16 if vocabulary_size <= 1 << 16 else np.uint32


def open_shard(path: Path) -> Shard:
    """Map a shard. Raises DamagedError."""
    with _reading(path) as batch:
        lists = batch.column("pieces")
        return Shard(
            pieces=_view(lists.values),
            word_bits=_bytes_of(batch.column("word_start").values),
            sentence_bits=_bytes_of(batch.column("sentence_start").values),
            offsets=_view(lists.offsets),
            heldout_bits=_bytes_of(batch.column("heldout")),
        )


def read_shard(path: Path) -> Documents:
    """All of a shard. Raises DamagedError, and DataError as `signatures_of`."""
    shard, signatures = open_shard(path), signatures_of(path)
    with _reading(path) as batch:
        return Documents(
            pieces=shard.pieces,
            word_start=bits_of(shard.word_bits, 0, len(shard.pieces)),
            sentence_start=bits_of(shard.sentence_bits, 0, len(shard.pieces)),
            lengths=np.diff(shard.offsets).astype(np.int64),
            heldout=bits_of(shard.heldout_bits, 0, batch.num_rows),
            sources=batch.column("source").to_pylist(),
            signatures=signatures,
            characters=_view(batch.column("characters")),
        )


def signatures_of(path: Path) -> NDArray[np.uint64]:
    """The documents' signatures, (S, 2), mapped. Raises DamagedError, and DataError for a shard of before there were
    any."""
    with _reading(path) as batch:
        if "signature" not in batch.schema.names:
            raise DataError(
                f"{path}: a shard of an earlier version, without signatures; build that corpus again"
            )
        found = np.frombuffer(batch.column("signature").buffers()[1], "<u8", count=2 * batch.num_rows)
        return found.reshape(-1, 2)


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """A shard's record batch, mapped. Raises DamagedError, also for what is not in it."""
    try:
        yield pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (pa.ArrowInvalid, OSError, KeyError) as problem:
        raise DamagedError(f"{path}: a damaged shard: {problem}") from problem


def bits_of(packed: NDArray[np.uint8], begin: int, end: int) -> NDArray[np.bool_]:
    """Bits begin … end-1 of a shard's `word_bits`, `sentence_bits` or `heldout_bits`."""
    first = begin // 8
    bits = np.unpackbits(packed[first : (end + 7) // 8], bitorder="little")
    return bits[begin - 8 * first : end - 8 * first].astype(np.bool_)


def write_manifest(folder: Path, lines: Sequence[ShardLine], *, fingerprints: Mapping[str, str]) -> None:
    """Write `manifest.json` of a shards folder, last of all: without it there is no corpus."""
    about = {"format": FORMAT, **fingerprints, "shards": [asdict(line) for line in lines]}
    write_json(folder / "manifest.json", about)


def read_manifest(folder: Path) -> tuple[dict[str, str], list[ShardLine]]:
    """The fingerprints and the shards of a finished corpus's shards folder. Raises DataError, DamagedError."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{folder.parent}: not the run folder of a finished corpus; there is no {path}")
    try:
        about = json.loads(path.read_bytes())
        if about["format"] != FORMAT:
            raise DataError(f"{folder}: shards of format {about['format']}; this version reads {FORMAT}")
        fingerprints = {name: about[name] for name in ("tokenizer", "segmenter")}
        return fingerprints, [ShardLine(**values) for values in about["shards"]]
    except (ValueError, KeyError, TypeError) as problem:
        raise DamagedError(f"{path}: cannot be read: {problem!r}") from problem


def check_size(path: Path, line: ShardLine) -> os.stat_result:
    """What the disk knows of a shard. Raises DamagedError where it is missing or has another size."""
    if not path.is_file():
        raise DamagedError(f"{path}: this shard is missing")
    state = path.stat()
    if state.st_size != line.size_bytes:
        raise DamagedError(
            f"{path}: a damaged shard: {state.st_size} bytes where {line.size_bytes} were written"
        )
    return state


def check_bytes(path: Path, line: ShardLine) -> None:
    """Raise DamagedError where a shard's bytes are not those that were written."""
    if sha256_of(path) != line.sha256:
        raise DamagedError(f"{path}: a damaged shard: its bytes are not those that were written (sha256)")


def _lists(offsets: pa.Array, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(offsets, values)


# Buffers are made and read as they are: `pa.array` and `to_numpy` look for pandas first, whose import takes longer than
# writing a shard.
def _numbers(values: NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _names(given: Sequence[str]) -> pa.Array:
    """As a dictionary array, in the order in which they come first."""
    spelled = [name.encode(errors="backslashreplace") for name in given]  # of a file, perhaps in GBK
    names = {name: number for number, name in enumerate(dict.fromkeys(spelled))}
    ends = np.cumsum([0, *map(len, names)], dtype=np.int32)
    known = pa.Array.from_buffers(
        pa.string(), len(names), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(names))]
    )
    places = pa.py_buffer(np.fromiter(map(names.__getitem__, spelled), np.int32, len(spelled)))
    return pa.DictionaryArray.from_buffers(
        pa.dictionary(pa.int32(), pa.string()), len(given), [None, places], known
    )


def _bits(values: NDArray[np.bool_]) -> pa.Array:
    packed = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, packed])


def _view(numbers: pa.Array) -> NDArray[Any]:
    kind = np.dtype(numbers.type.to_pandas_dtype())  # numpy's, in spite of its name
    buffer = numbers.buffers()[1]
    return np.zeros(0, kind) if buffer is None else np.frombuffer(buffer, kind, len(numbers), numbers.offset)


def _bytes_of(bits: pa.Array) -> NDArray[np.uint8]:
    buffer = bits.buffers()[1]
    return np.zeros(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
