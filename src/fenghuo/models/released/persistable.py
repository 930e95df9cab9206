"""One variable of Paddle in a file of its own: what stands before its values.

    uint32 version (0), uint64 levels of detail, each: uint64 bytes, then so many
    uint32 version (0), int32 length, TensorDesc {1: number type, 2: extents} as a protocol buffer
    the values, in the order of C, little-endian

Source: Paddle's paddle/fluid/framework/lod_tensor.cc and tensor_util.cc (SerializeToStream, TensorToStream) and
framework.proto (VarType). Paddle 3.3.1 writes and reads the same.
"""

from __future__ import annotations

import struct
from pathlib import Path

import torch

from fenghuo.errors import ModelError
from fenghuo.models.released.arrays import Place, checked_shape
from fenghuo.models.released.machine import Span
from fenghuo.models.released.wire import read_varint, varint

MARK = bytes(4)
"""How such a file begins. No text, pickle, JSON or protocol buffer does."""

_TYPES = {
    0: torch.bool,
    1: torch.int16,
    2: torch.int32,
    3: torch.int64,
    4: torch.float16,
    5: torch.float32,
    6: torch.float64,
    20: torch.uint8,
    21: torch.int8,
    22: torch.bfloat16,
    23: torch.complex64,
    24: torch.complex128,
}
_NUMBERS = {dtype: number for number, dtype in _TYPES.items()}
_MOST_LEVELS, _MOST_HEADER_BYTES = 16, 1 << 16


def find_values(path: Path, name: str) -> tuple[Place, int]:
    """The array that starts the file, and how many bytes follow it.

    Raises:
        ModelError: it is not there, or the file is shorter than it claims.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER_BYTES)
    try:
        version, levels = struct.unpack_from("<IQ", head)
        at = 12
        if version or levels > _MOST_LEVELS:
            raise ValueError("an unknown version")
        for _ in range(levels):
            at += 8 + struct.unpack_from("<Q", head, at)[0]
        version, length = struct.unpack_from("<Ii", head, at)
        at += 8
        if version or not 0 <= length <= len(head) - at:
            raise ValueError("an unknown version")
        kind, extents = _description(head[at : at + length])
    except (struct.error, ValueError, OverflowError) as problem:
        raise ModelError(f"{path}: {name}: damaged, or of a newer Paddle ({problem})") from problem
    if kind not in _TYPES:
        raise ModelError(f"{path}: {name}: numbers of Paddle's type {kind} are unsupported")
    shape = checked_shape(path, name, extents)
    start = at + length
    place = Place(shape=shape, dtype=_TYPES[kind], data=Span(start, 0))
    if place.size_bytes > size - start:
        raise ModelError(
            f"{path}: {name}: claims {place.size_bytes:,} bytes, and the file holds {size - start:,}"
        )
    whole = Place(shape=shape, dtype=place.dtype, data=Span(start, place.size_bytes))
    return whole, size - start - place.size_bytes


def header(path: Path, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> bytes:
    """What stands before the values of such an array.

    Raises:
        ModelError: Paddle has no such numbers.
    """
    if dtype not in _NUMBERS:
        raise ModelError(f"{path}: {name}: Paddle keeps no numbers of type {dtype}")
    described = b"\x08" + varint(_NUMBERS[dtype]) + b"".join(b"\x10" + varint(extent) for extent in shape)
    return struct.pack("<IQIi", 0, 0, 0, len(described)) + described


def _description(data: bytes) -> tuple[int, list[int]]:
    kind, extents, at = -1, [], 0
    while at < len(data):
        tag, at = data[at], at + 1
        if tag == 0x08:
            kind, at = read_varint(data, at)
        elif tag == 0x10:
            extent, at = read_varint(data, at)
            extents.append(extent)
        elif tag == 0x12:  # the same, packed, as other writers of protocol buffers do
            length, at = read_varint(data, at)
            packed = data[: at + length]
            while at < len(packed):
                extent, at = read_varint(packed, at)
                extents.append(extent)
        else:
            raise ValueError("an unknown field")
    return kind, extents
