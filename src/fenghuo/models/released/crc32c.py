"""CRC-32C, the checksum of TensorFlow's files, at the speed of memory and without a compiled package.

The CRC of a buffer is the remainder of a long polynomial over GF(2), the first byte holding the highest powers.
A remainder stays what it is when a multiple of the divisor is taken away, and the divisor of CRC-32C has a
multiple of four terms only: x^6777 + x^484 + x^100 + 1. Squaring keeps that true (over GF(2) the powers just
double), so it also holds with a byte, or with eight, as the unit: whatever stands 6777 units before the end may
be moved to 484, 100 and 0 units before the end. numpy does that for 6293 units at once with three exclusive ors.
What is left, 6777 bytes, goes through the usual table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIVISOR = 0x82F63B78  # Castagnoli's polynomial, bits in the order of the reflected CRC (RFC 3720, B.4)
_FAR, _MIDDLE, _NEAR = 6777, 484, 100
_AT_ONCE = _FAR - _MIDDLE  # units whose new places all lie behind them
_PIECE_BYTES = 1 << 18  # with what is carried over it stays in the cache; a multiple of 8
_MASK_DELTA = 0xA282EAD8


def _table_of_bytes() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_DIVISOR if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table_of_bytes()


def crc32c(data: Any, before: int = 0) -> int:
    """CRC-32C of the bytes of `data`; `before` is the CRC of what came before them.

    `data` is anything with a contiguous buffer. Over a gigabyte a second where the data is long.
    """
    rest, state = memoryview(data).cast("B"), before ^ 0xFFFFFFFF
    if len(rest) > _FAR:
        rest, state = _folded(np.frombuffer(rest, np.uint8), state).data, 0
    for byte in rest:
        state = _TABLE[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: Any) -> int:
    """CRC-32C as tables and bundles store it: turned by 15 bits, plus a constant.

    A file that holds checksums and is checksummed itself would else meet CRCs of CRCs (LevelDB's format).
    """
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _folded(data: NDArray[np.uint8], state: int) -> NDArray[np.uint8]:
    """6777 bytes that leave the same remainder as `data` does from `state`."""
    carried = np.zeros(_FAR, np.uint64)
    start, end = (
        0,
        4 + (len(data) - 4) % _PIECE_BYTES,
    )  # the first piece is the odd one, and has room for a state
    while start < len(data):
        # Zeros in front are zero coefficients of higher powers: they fill the odd piece to whole words.
        words = np.zeros(_FAR + (end - start + 7) // 8, np.uint64)
        words[:_FAR] = carried
        piece = words.view(np.uint8)[-(end - start) :]
        piece[:] = data[start:end]
        if start == 0:
            piece[:4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
        carried = _fold(words)
        start, end = end, end + _PIECE_BYTES
    return _fold(carried.view(np.uint8))


def _fold(units: NDArray[Any]) -> NDArray[Any]:
    """The last 6777 units, changed to leave the remainder of all of them; `units` is overwritten."""
    last = len(units) - _FAR
    for start in range(0, last, _AT_ONCE):
        moved = units[start : min(start + _AT_ONCE, last)]
        for before_end in (_MIDDLE, _NEAR, 0):
            place = start + _FAR - before_end
            units[place : place + len(moved)] ^= moved
    return units[last:]
