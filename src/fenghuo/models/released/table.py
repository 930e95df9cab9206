"""Sorted tables: the files of keys and values, in LevelDB's format, that index TensorFlow's checkpoints.

A file is a row of blocks and a footer. A block holds its keys in order, each as what differs from the key before
it; then the restarts (places where a key stands in full), a byte for the compression and a masked CRC-32C. The
last block but none, the index, has for each data block a key not below its keys, and its place.

Source: LevelDB's doc/table_format.md; TensorFlow's copy (tsl/lib/io/table_builder.cc) uses blocks of 256 KiB and
a restart every 16 keys, as we do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from fenghuo.errors import ModelError
from fenghuo.models.released.crc32c import masked_crc32c
from fenghuo.models.released.wire import read_varint, varint

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_BLOCK_BYTES, _KEYS_A_RESTART = 1 << 18, 16
_PLAIN, _SNAPPY = 0, 1

# No index of an encoder comes near them. They keep a small hostile file from claiming all memory.
_MOST_FILE_BYTES = 64 << 20
_MOST_KEYS_BYTES = 64 << 20
_MOST_ENTRIES = 1_000_000


def is_table(path: Path) -> bool:
    """Whether the file ends as a table does."""
    with path.open("rb") as file:
        size_bytes = file.seek(0, 2)
        file.seek(max(0, size_bytes - len(_MAGIC)))
        return file.read() == _MAGIC


def read_table(path: Path) -> dict[bytes, bytes]:
    """All keys and values of a table file, in the order of the keys; every block's checksum was compared.

    Raises:
        ModelError: not such a file, damaged, or larger than an index of arrays can be (64 MiB, a million keys).
    """
    try:
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes; an index may have {_MOST_FILE_BYTES}")
        return _entries_of(path.read_bytes())
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read ({problem.strerror})") from problem
    except ValueError as problem:
        raise ModelError(f"{path}: damaged, or not a table of TensorFlow: {problem}") from problem


def _entries_of(data: bytes) -> dict[bytes, bytes]:
    if len(data) < _FOOTER_BYTES:
        raise ValueError(f"{len(data)} bytes, and the footer alone has {_FOOTER_BYTES}")
    footer = data[-_FOOTER_BYTES:]
    if footer[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("the last eight bytes are not the format's mark")
    _, at = _handle(footer, 0)  # the block of further blocks, which TensorFlow leaves empty
    index, _ = _handle(footer, at)
    entries: dict[bytes, bytes] = {}
    budget = _Budget()
    last = b""
    for _, place in _walk(_block(data, index, budget), budget):
        for key, value in _walk(_block(data, _handle(place, 0)[0], budget), budget):
            if entries and key <= last:
                raise ValueError(f"the keys are not in order: {key!r} follows {last!r}")
            entries[key] = value
            last = key
    return entries


class _Budget:
    """What may still be unpacked from one file."""

    def __init__(self) -> None:
        self.block_bytes, self.keys_bytes, self.entries = _MOST_FILE_BYTES, _MOST_KEYS_BYTES, _MOST_ENTRIES

    def take(self, *, block_bytes: int = 0, keys_bytes: int = 0, entries: int = 0) -> None:
        self.block_bytes -= block_bytes
        self.keys_bytes -= keys_bytes
        self.entries -= entries
        if min(self.block_bytes, self.keys_bytes, self.entries) < 0:
            raise ValueError(
                f"it unpacks to more than {_MOST_FILE_BYTES} bytes of blocks, {_MOST_KEYS_BYTES} bytes of keys "
                f"or {_MOST_ENTRIES} entries"
            )


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = read_varint(data, at)
    size_bytes, at = read_varint(data, at)
    return (offset, size_bytes), at


def _block(data: bytes, handle: tuple[int, int], budget: _Budget) -> bytes:
    offset, size_bytes = handle
    end = len(data) - _FOOTER_BYTES - _TRAILER_BYTES
    if offset + size_bytes > end:
        raise ValueError(f"a block of {size_bytes} bytes at {offset}; blocks end at byte {end}")
    budget.take(block_bytes=size_bytes)
    content = data[offset : offset + size_bytes]
    kind, stored_crc = struct.unpack_from("<BI", data, offset + size_bytes)
    crc = masked_crc32c(data[offset : offset + size_bytes + 1])
    if crc != stored_crc:
        raise ValueError(
            f"the block at byte {offset} has the checksum {crc:08x}, and {stored_crc:08x} is stored"
        )
    if kind == _SNAPPY:  # TensorFlow 1.1 alone wrote such blocks
        return _unsnap(content, offset, budget)
    if kind != _PLAIN:
        raise ValueError(f"the block at byte {offset} is compressed in the unknown way {kind}")
    return content


def _unsnap(content: bytes, offset: int, budget: _Budget) -> bytes:
    import pyarrow  # here, because hardly a file needs it

    size_bytes, _ = read_varint(content, 0)
    budget.take(block_bytes=size_bytes)
    try:
        out = pyarrow.Codec("snappy").decompress(content, decompressed_size=size_bytes, asbytes=True)
    except (OSError, pyarrow.ArrowException) as problem:
        raise ValueError(f"the block at byte {offset} is no snappy data ({problem})") from problem
    return bytes(out)


def _walk(block: bytes, budget: _Budget) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else 0
    end = len(block) - 4 - 4 * restarts
    if end < 0 or restarts == 0:
        raise ValueError(f"a block of {len(block)} bytes says it has {restarts} restarts")
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        own, at = read_varint(block, at)
        size_bytes, at = read_varint(block, at)
        if shared > len(key) or own + size_bytes > end - at:
            raise ValueError(
                f"a key shares {shared} bytes with one of {len(key)}, and it and its value have "
                f"{own + size_bytes} of the {end - at} bytes left"
            )
        budget.take(keys_bytes=shared + own, entries=1)
        key, at = key[:shared] + block[at : at + own], at + own
        yield key, block[at : at + size_bytes]
        at += size_bytes


def table_bytes(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table file with the entries, whose keys must ascend; not compressed, as TensorFlow writes it today."""
    out = bytearray()
    index = _Block(keys_a_restart=1)
    block = _Block(keys_a_restart=_KEYS_A_RESTART)
    for key, value in entries:
        if block.size_bytes >= _BLOCK_BYTES:
            index.add(block.key, _append(out, block))
            block = _Block(keys_a_restart=_KEYS_A_RESTART)
        block.add(key, value)
    if block.keys:
        index.add(_short_key_above(block.key), _append(out, block))
    footer = _append(out, _Block(keys_a_restart=1)) + _append(out, index)
    return bytes(out) + footer.ljust(_FOOTER_BYTES - len(_MAGIC), b"\0") + _MAGIC


class _Block:
    def __init__(self, *, keys_a_restart: int) -> None:
        self.key = b""
        self._entries, self._restarts = bytearray(), [0]
        self.keys, self._keys_a_restart = 0, keys_a_restart

    @property
    def size_bytes(self) -> int:
        return len(self._entries) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.keys and self.keys % self._keys_a_restart == 0:
            self._restarts.append(len(self._entries))
        elif self.keys:
            for mine, theirs in zip(key, self.key, strict=False):
                if mine != theirs:
                    break
                shared += 1
        self._entries += (
            varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        )
        self.key, self.keys = key, self.keys + 1

    def whole(self) -> bytes:
        numbers = [*self._restarts, len(self._restarts)]
        return bytes(self._entries) + struct.pack(f"<{len(numbers)}I", *numbers)


def _append(out: bytearray, block: _Block) -> bytes:
    """Write the block at the end of `out`; where it stands, as an index says it."""
    content = block.whole()
    place = varint(len(out)) + varint(len(content))
    checked = content + bytes([_PLAIN])
    out += checked + masked_crc32c(checked).to_bytes(4, "little")
    return place


def _short_key_above(key: bytes) -> bytes:
    """A short key that is not below `key`: the last one of an index only has to be that."""
    for at, byte in enumerate(key):
        if byte != 0xFF:
            return key[:at] + bytes([byte + 1])
    return key
