"""Variable-length numbers and protocol-buffer fields, read from bytes that nobody vouches for.

Source: the encoding as protobuf.dev/programming-guides/encoding describes it; LevelDB's numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, 0 to 2**64 - 1, that begins at byte `at`, and where it ends.

    Raises:
        ValueError: the bytes end within it, or it has more than 64 bits.
    """
    value = 0
    for length in range(10):
        if at + length >= len(data):
            raise ValueError(f"a number at byte {at} is cut off after {length} bytes")
        byte = data[at + length]
        value |= (byte & 0x7F) << (7 * length)
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at + length + 1
    raise ValueError(f"a number at byte {at} has more than 64 bits")


def varint(value: int) -> bytes:
    """The bytes of a number from 0 to 2**64 - 1."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> int:
    """A number of 64 bits read as an int64."""
    return value - (1 << 64) if value >= 1 << 63 else value


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of each field in turn: bytes for strings and messages, else an unsigned number.

    Raises:
        ValueError: not a whole message.
    """
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = read_varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = read_varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"field {number} is of the unknown kind {kind}")
        if length > len(message) - at:
            raise ValueError(f"field {number} says {length} bytes, and {len(message) - at} are left")
        content, at = message[at : at + length], at + length
        yield number, content if kind == _BYTES else int.from_bytes(content, "little")


def as_number(value: int | bytes) -> int:
    """The value of a field that must be a number; ValueError where it is bytes."""
    if not isinstance(value, int):
        raise ValueError("a field holds bytes where a number belongs")
    return value


def as_bytes(value: int | bytes) -> bytes:
    """The value of a field that must be bytes; ValueError where it is a number."""
    if not isinstance(value, bytes):
        raise ValueError("a field holds a number where bytes belong")
    return value


def number_field(number: int, value: int) -> bytes:
    """A field with a number; nothing for 0, which is what an absent field means."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def fixed32_field(number: int, value: int) -> bytes:
    """A field with a number of four bytes; nothing for 0."""
    return varint(number << 3 | _FIXED32) + value.to_bytes(4, "little") if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A field with bytes or a message, also where they are empty."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value
