"""Numbers and fields from bytes that may be anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.models.released.wire import (
    as_bytes,
    as_number,
    bytes_field,
    fixed32_field,
    number_field,
    read_fields,
    read_varint,
    signed,
    varint,
)

WORDS = st.integers(0, 2**64 - 1)


@given(WORDS, st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_is_read_as_it_was_written(value, before, after):
    data = before + varint(value) + after
    assert read_varint(data, len(before)) == (value, len(data) - len(after))


@given(WORDS)
def test_a_cut_number_is_told_of(value):
    with pytest.raises(ValueError, match="cut off"):
        read_varint(varint(value)[:-1], 0)


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01", b"\xff" * 30])
def test_a_number_of_more_than_64_bits_is_refused(data):
    with pytest.raises(ValueError, match="64 bits"):
        read_varint(data, 0)


def test_signed_numbers_are_of_64_bits():
    assert [signed(value) for value in (0, 2**63 - 1, 2**63, 2**64 - 1)] == [0, 2**63 - 1, -(2**63), -1]


def test_fields_are_read_as_they_were_written():
    message = number_field(1, 300) + bytes_field(2, b"ab") + fixed32_field(6, 7) + bytes_field(3, b"")
    assert list(read_fields(message)) == [(1, 300), (2, b"ab"), (6, 7), (3, b"")]
    assert number_field(1, 0) == fixed32_field(6, 0) == b"", "zero is what an absent field means"
    assert list(read_fields(b"\x09" + bytes(7) + b"\x01")) == [(1, 1 << 56)]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (bytes_field(2, b"abc")[:-1], "field 2 says 3 bytes, and 2 are left"),
        (b"\x0a\xff\xff\xff\xff\x7f", "and 0 are left"),
        (fixed32_field(6, 7)[:-1], "field 6 says 4 bytes, and 3 are left"),
        (b"\x0b", "unknown kind 3"),
        (b"\x08", "cut off"),
    ],
)
def test_a_damaged_message_says_what_is_wrong(message, told):
    with pytest.raises(ValueError, match=told):
        list(read_fields(message))


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_value_error(message):
    try:
        fields = list(read_fields(message))
    except ValueError:
        return
    assert sum(len(value) if isinstance(value, bytes) else 1 for _, value in fields) <= len(message)


def test_a_field_of_the_wrong_kind_is_refused():
    assert (as_number(3), as_bytes(b"x")) == (3, b"x")
    with pytest.raises(ValueError, match="bytes where a number"):
        as_number(b"")
    with pytest.raises(ValueError, match="number where bytes"):
        as_bytes(0)
