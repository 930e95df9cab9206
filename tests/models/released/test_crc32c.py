"""The quick checksum is the slow one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.models.released.crc32c import _PIECE_BYTES, crc32c, masked_crc32c


def bit_by_bit(data: bytes, before: int = 0) -> int:
    """CRC-32C as RFC 3720 defines it."""
    state = before ^ 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4, and the usual check value
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_known_checksums(data, crc):
    assert crc32c(data) == bit_by_bit(data) == crc


def test_the_sparse_multiple_is_one():
    """x^6777 + x^484 + x^100 + 1 leaves no remainder, which is what the whole shortcut rests on."""
    left = 1 << 6777 | 1 << 484 | 1 << 100 | 1
    divisor = 0x11EDC6F41
    while left.bit_length() >= divisor.bit_length():
        left ^= divisor << (left.bit_length() - divisor.bit_length())
    assert left == 0


EDGES = (6777, 8 * 6777, _PIECE_BYTES, 2 * _PIECE_BYTES)


@settings(max_examples=25)
@given(
    size=st.one_of(
        st.integers(0, 60_000),
        st.builds(lambda edge, by: edge + by, st.sampled_from(EDGES), st.integers(-9, 9)),
    ),
    seed=st.integers(0, 2**32 - 1),
    before=st.integers(0, 2**32 - 1),
)
def test_it_is_the_slow_checksum(size, seed, before):
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    assert crc32c(data, before) == by_table(data, before)


def by_table(data: bytes, before: int) -> int:
    table = [bit_by_bit(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]
    state = before ^ 0xFFFFFFFF
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


@given(data=st.binary(max_size=300), before=st.integers(0, 2**32 - 1))
def test_the_table_in_this_file_is_right(data, before):
    assert by_table(data, before) == bit_by_bit(data, before)


@settings(max_examples=20)
@given(cut=st.integers(0, 300_000), seed=st.integers(0, 99))
def test_it_goes_on_from_what_came_before(cut, seed):
    data = np.random.default_rng(seed).integers(0, 256, 300_000, np.uint8)
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


def test_any_contiguous_buffer_does():
    values = torch.arange(5000, dtype=torch.float64).numpy()
    assert (
        crc32c(values)
        == crc32c(values.tobytes())
        == crc32c(bytearray(values.tobytes()))
        == crc32c(values.data)
    )
    assert values[4999] == 4999, "the buffer was left as it was"


@given(st.binary(max_size=50))
def test_a_masked_checksum_can_be_unmasked(data):
    turned = (masked_crc32c(data) - 0xA282EAD8) & 0xFFFFFFFF
    assert ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF == crc32c(data)
