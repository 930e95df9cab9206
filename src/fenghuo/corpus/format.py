"""The bytes of a corpus: shards, their manifest, and whether they are still what was written.

A shard is an Arrow IPC file of one record batch, a document a row; its schema's metadata says how it was made
and what it holds. It is memory-mapped, and read without a copy.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fenghuo.errors import DamagedError, DataError, DiskError
from fenghuo.rundir import sha256_of, write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
    heldout: NDArray[np.bool_]  # (S,)


def write_shard(
    path: Path, parts: Sequence[Documents], *, vocabulary_size: int, fingerprints: Mapping[str, str]
) -> ShardLine:
    """Write documents as one shard, atomically.

    Args:
        fingerprints: of `tokenizer` and `segmenter`.

    Raises:
        DiskError: the disk is full.
    """
    pieces = np.concatenate([part.pieces for part in parts])
    heldout = np.concatenate([part.heldout for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    sources = pa.array([name for part in parts for name in part.sources], pa.string())
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns = {
        "pieces": _lists(offsets, pa.array(pieces.astype(smallest_kind(vocabulary_size), copy=False))),
        "word_start": _lists(offsets, _bits(np.concatenate([part.word_start for part in parts]))),
        "sentence_start": _lists(offsets, _bits(np.concatenate([part.sentence_start for part in parts]))),
        "heldout": _bits(heldout),
        "source": sources.dictionary_encode(),
    }
    counts = {"documents": len(heldout), "heldout_documents": int(heldout.sum()), "pieces": len(pieces)}
    about = json.dumps({"format": FORMAT, **fingerprints, **counts}, sort_keys=True)
    schema = pa.schema([(name, column.type) for name, column in columns.items()], {_META: about})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    data = sink.getvalue()
    write_atomic(path, data.to_pybytes())
    return ShardLine(file=path.name, size_bytes=data.size, sha256=sha256_of(path), **counts)


def smallest_kind(vocabulary_size: int) -> type[np.unsignedinteger[Any]]:
    """The type in which a shard keeps ids."""
    return np.uint16 if vocabulary_size <= 1 << 16 else np.uint32


def open_shard(path: Path) -> Shard:
    """Map a shard. Raises DamagedError."""
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        lists = batch.column("pieces")
        return Shard(
            pieces=lists.values.to_numpy(zero_copy_only=True),
            word_bits=_bytes_of(batch.column("word_start").values),
            sentence_bits=_bytes_of(batch.column("sentence_start").values),
            offsets=lists.offsets.to_numpy(zero_copy_only=True),
            heldout=batch.column("heldout").to_numpy(zero_copy_only=False),
        )
    except (pa.ArrowInvalid, OSError, KeyError) as problem:
        raise DamagedError(f"{path}: a damaged shard: {problem}") from problem


def bits_of(packed: NDArray[np.uint8], begin: int, end: int) -> NDArray[np.bool_]:
    """Bits begin … end-1 of a shard's `word_bits` or `sentence_bits`."""
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


def verify(folder: Path, lines: Sequence[ShardLine]) -> None:
    """Compare every shard with its sha256, unless that was done since the file last changed.

    Raises:
        DamagedError: the first shard that is missing, truncated or changed.
    """
    note = folder / ".verified.json"
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        known = json.loads(note.read_bytes())
    seen = {line.file: _checked(folder / line.file, line, known.get(line.file)) for line in lines}
    if seen != known:
        with suppress(DiskError):  # a read-only corpus is checked each time
            write_atomic(note, json.dumps(seen))


def _checked(path: Path, line: ShardLine, known: Any) -> list[Any]:
    if not path.is_file():
        raise DamagedError(f"{path}: this shard is missing")
    state = path.stat()
    if state.st_size != line.size_bytes:
        raise DamagedError(
            f"{path}: a damaged shard: {state.st_size} bytes where {line.size_bytes} were written"
        )
    seal = [state.st_size, state.st_mtime_ns, line.sha256]
    if seal != known and sha256_of(path) != line.sha256:
        raise DamagedError(f"{path}: a damaged shard: its bytes are not those that were written (sha256)")
    return seal


def _lists(offsets: pa.Array, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(offsets, values)


def _bits(values: NDArray[np.bool_]) -> pa.Array:
    packed = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, packed])


def _bytes_of(bits: pa.Array) -> NDArray[np.uint8]:
    buffer = bits.buffers()[1]
    return np.zeros(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
