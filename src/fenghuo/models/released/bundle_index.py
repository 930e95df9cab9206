"""What the index of a TensorFlow checkpoint says: its header, and an entry for each array.

Source: tensorflow/core/protobuf/tensor_bundle.proto, framework/types.proto, tensor_shape.proto, tensor_slice.proto,
versions.proto; the keys of slices: util/saved_tensor_slice_util and tsl/lib/strings/ordered_code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fenghuo.models.released.wire import (
    as_bytes,
    as_number,
    bytes_field,
    fixed32_field,
    number_field,
    read_fields,
    signed,
)

HEADER_KEY = b""
SLICE_MARK = b"\0"  # a number of no bytes; no name begins with it
TYPES = {  # what is missing is text, handles, or numbers with a scale of their own
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    5: torch.int16,
    6: torch.int8,
    8: torch.complex64,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    17: torch.uint16,
    18: torch.complex128,
    19: torch.float16,
    22: torch.uint32,
    23: torch.uint64,
}
NUMBERS = {dtype: number for number, dtype in TYPES.items()}

_VERSION = 1
_BIG_ENDIAN = 1
_WHOLE = -1
Extents = tuple[tuple[int, int], ...]
"""(start, length) of a slice along each dimension; the length -1 is all of it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the index says of an array, or of a slice of one."""

    kind: int
    """TensorFlow's number for the number type; a key of TYPES, or something that is no array of numbers."""
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size_bytes: int = 0
    crc: int = 0
    """Masked CRC-32C of the bytes."""
    slices: tuple[Extents, ...] = ()
    """Of an array that was saved in slices. It has no bytes itself: its slices have entries of their own."""

    @property
    def dtype(self) -> torch.dtype:
        return TYPES[self.kind]


def read_header(message: bytes) -> int:
    """How many data files there are.

    Raises:
        ValueError: damaged, or of a kind that cannot be read here.
    """
    shards = 0
    for number, value in read_fields(message):
        if number == 1:
            shards = as_number(value)
        elif number == 2 and as_number(value) == _BIG_ENDIAN:
            raise ValueError(
                "the numbers are big-endian; save the checkpoint again on a little-endian machine"
            )
        elif number == 3:
            wanted = as_number(dict(read_fields(as_bytes(value))).get(2, 0))
            if wanted > _VERSION:
                raise ValueError(f"needs a reader of version {wanted}; this one has {_VERSION}")
    if not 0 < shards < 1 << 31:
        raise ValueError(f"{shards} data files")
    return shards


def header_bytes(shards: int) -> bytes:
    """The header of a little-endian checkpoint."""
    return number_field(1, shards) + bytes_field(3, number_field(1, _VERSION))


def read_entry(message: bytes) -> Entry:
    """An entry; ValueError where it is damaged. Nothing is compared with the files yet."""
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    slices = []
    for number, value in read_fields(message):
        if number in numbers:
            numbers[number] = as_number(value)
        elif number == 2:
            shape = _read_shape(as_bytes(value))
        elif number == 7:
            slices.append(_read_slice(as_bytes(value)))
    kind, shard, offset, size_bytes, crc = numbers.values()
    return Entry(
        kind=kind,
        shape=shape,
        shard=shard,
        offset=offset,
        size_bytes=size_bytes,
        crc=crc,
        slices=tuple(slices),
    )


def entry_bytes(entry: Entry) -> bytes:
    """The message of an array that is not in slices."""
    shape = b"".join(bytes_field(2, number_field(1, size)) for size in entry.shape)
    return b"".join(
        (
            number_field(1, entry.kind),
            bytes_field(2, shape),
            number_field(3, entry.shard),
            number_field(4, entry.offset),
            number_field(5, entry.size_bytes),
            fixed32_field(6, entry.crc),
        )
    )


def _read_shape(message: bytes) -> tuple[int, ...]:
    shape = []
    for number, value in read_fields(message):
        if number == 2:
            shape.append(signed(as_number(dict(read_fields(as_bytes(value))).get(1, 0))))
        elif number == 3 and value:
            raise ValueError("its shape is unknown")
    return tuple(shape)


def _read_slice(message: bytes) -> Extents:
    extents = []
    for number, value in read_fields(message):
        if number == 1:
            fields = dict(read_fields(as_bytes(value)))
            start, length = as_number(fields.get(1, 0)), fields.get(2)
            extents.append((signed(start), _WHOLE if length is None else signed(as_number(length))))
    return tuple(extents)


def spans(extents: Extents, shape: tuple[int, ...]) -> Extents:
    """The same with the lengths that are meant; the two have equally many dimensions."""
    return tuple(
        (start, size if length == _WHOLE else length)
        for (start, length), size in zip(extents, shape, strict=True)
    )


def slice_key(name: str, extents: Extents) -> bytes:
    """The key of a slice's own entry: its name and place, so encoded that bytes sort as the values do."""
    escaped = name.encode().replace(b"\0", b"\0\xff")  # 255 would be escaped too, and UTF-8 has none
    places = b"".join(_ordered_signed(one) for extent in extents for one in extent)
    return SLICE_MARK + escaped + b"\0\1" + _ordered(len(extents)) + places


def _ordered(value: int) -> bytes:
    length = (value.bit_length() + 7) // 8
    return bytes([length]) + value.to_bytes(length, "big")


def _ordered_signed(value: int) -> bytes:
    # As many leading ones as bytes, then a zero, then the value; for a negative one all bits are turned.
    length = (value if value >= 0 else ~value).bit_length() // 7 + 1
    ones = ((1 << length) - 1) << (7 * length)
    bits = (value & ((1 << 8 * length) - 1)) ^ ones
    return bits.to_bytes(length, "big")
