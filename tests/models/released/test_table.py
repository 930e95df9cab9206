"""Sorted tables: what is written is read; what is damaged or hostile is refused before it costs anything."""

from __future__ import annotations

import struct
import tracemalloc

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.errors import ModelError
from fenghuo.models.released import table as module
from fenghuo.models.released.crc32c import masked_crc32c
from fenghuo.models.released.table import is_table, read_table, table_bytes
from fenghuo.models.released.wire import varint

MAGIC = bytes.fromhex("57fb808b247547db")
ENTRIES = st.dictionaries(st.binary(max_size=12), st.binary(max_size=30), max_size=60)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("table") / "x.index"


def line(shared: int, own: bytes, value: bytes) -> bytes:
    return varint(shared) + varint(len(own)) + varint(len(value)) + own + value


def raw_table(*blocks: bytes, kind: int = 0, restarts: bytes = struct.pack("<2I", 0, 1)) -> bytes:
    """A table of blocks as given, with right checksums."""
    out, index = b"", b""
    for number, block in enumerate(blocks):
        content = (
            pyarrow.compress(block + restarts, "snappy", asbytes=True) if kind == 1 else block + restarts
        )
        index += line(0, b"%05d" % number, varint(len(out)) + varint(len(content)))
        out += sealed(content, kind)
    place = varint(len(out)) + varint(len(index) + 8)
    out += sealed(index + struct.pack("<2I", 0, 1), 0)
    return out + (varint(0) + varint(0) + place).ljust(40, b"\0") + MAGIC


def sealed(content: bytes, kind: int) -> bytes:
    return content + bytes([kind]) + masked_crc32c(content + bytes([kind])).to_bytes(4, "little")


def refusal(file, data: bytes) -> str:
    file.write_bytes(data)
    with pytest.raises(ModelError) as told:
        read_table(file)
    assert str(told.value).startswith(f"{file}: ")
    return str(told.value)


@given(ENTRIES)
def test_what_is_written_is_read(file, entries):
    file.write_bytes(table_bytes(sorted(entries.items())))
    assert is_table(file)
    assert list(read_table(file).items()) == sorted(entries.items())


def test_many_entries_fill_several_blocks(file):
    entries = {b"layer_%06d/kernel" % number: b"v" * (number % 90) for number in range(20_000)}
    file.write_bytes(table_bytes(sorted(entries.items())))
    assert file.stat().st_size > 3 * (1 << 18)
    assert read_table(file) == entries


@given(ENTRIES)
def test_compressed_blocks_are_read(file, entries):
    block = b"".join(line(0, key, value) for key, value in sorted(entries.items()))
    file.write_bytes(raw_table(block, kind=1))
    assert read_table(file) == entries


@settings(max_examples=200)
@given(st.data())
def test_a_changed_or_missing_byte_is_found(file, data):
    entries = {b"bert/%d" % number: bytes([number]) * 9 for number in range(40)}
    whole = table_bytes(sorted(entries.items()))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        spoilt = whole[:at]
    else:
        spoilt = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    file.write_bytes(spoilt)
    try:
        read = read_table(file)
    except ModelError:
        return
    assert read == entries  # the padding of the footer says nothing


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=4), st.binary(max_size=4)), max_size=6).map(
            lambda lines: b"".join(line(*one) for one in lines)
        ),
    ),
    st.sampled_from([0, 1, 2]),
    st.binary(max_size=8),
)
def test_a_hostile_block_with_a_right_checksum_is_a_table_or_a_model_error(file, block, kind, restarts):
    file.write_bytes(raw_table(block, kind=kind, restarts=restarts or struct.pack("<2I", 0, 1)))
    try:
        read = read_table(file)
    except ModelError:
        return
    assert list(read) == sorted(read)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_snappy_data_are_refused(file, content):
    index = line(0, b"k", varint(0) + varint(len(content))) + struct.pack("<2I", 0, 1)
    first = sealed(content, 1)
    data = first + sealed(index, 0)
    footer = (varint(0) * 2 + varint(len(first)) + varint(len(index))).ljust(40, b"\0") + MAGIC
    file.write_bytes(data + footer)
    try:
        read_table(file)
    except ModelError:
        return


def test_each_refusal_names_the_numbers(file):
    whole = table_bytes([(b"a", b"1"), (b"b", b"2")])
    assert "10 bytes, and the footer alone has 48" in refusal(file, whole[:10])
    assert "not the format's mark" in refusal(file, whole + b"x")
    assert "has the checksum" in refusal(file, b"x" + whole[1:])
    assert "the unknown way 7" in refusal(file, raw_table(b"", kind=7))
    assert "are not in order: b'a' follows b'a'" in refusal(file, raw_table(line(0, b"a", b"") * 2))
    assert "are not in order: b'a' follows b'b'" in refusal(
        file, raw_table(line(0, b"b", b""), line(0, b"a", b""))
    )
    assert "shares 3 bytes with one of 0" in refusal(file, raw_table(line(3, b"a", b"")))
    assert "says it has 0 restarts" in refusal(file, raw_table(b"", restarts=bytes(4)))
    assert "says it has 4294967295 restarts" in refusal(file, raw_table(b"", restarts=b"\xff" * 4))
    huge = (varint(0) * 2 + varint(5) + varint(1 << 62)).ljust(40, b"\0") + MAGIC
    assert f"a block of {1 << 62} bytes at 5; blocks end at byte" in refusal(file, whole[:-48] + huge)
    with pytest.raises(ModelError, match="cannot be read"):
        read_table(file.parent)


def test_keys_that_share_a_long_beginning_do_not_fill_the_memory(file):
    """A few bytes a key would make keys of a megabyte each."""
    block = line(0, b"k" * (1 << 20), b"")
    block += b"".join(line((1 << 20) + number, b"k", b"") for number in range(3000))
    file.write_bytes(raw_table(block))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=r"more than .* bytes of keys"):
            read_table(file)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_compressed_block_that_claims_too_much_is_refused_before_it_is_unpacked(file):
    content = pyarrow.compress(bytes(65 << 20), "snappy", asbytes=True)
    index = line(0, b"k", varint(0) + varint(len(content))) + struct.pack("<2I", 0, 1)
    first = sealed(content, 1)
    footer = (varint(0) * 2 + varint(len(first)) + varint(len(index))).ljust(40, b"\0") + MAGIC
    assert "bytes of blocks" in refusal(file, first + sealed(index, 0) + footer)


def test_a_file_or_a_number_of_entries_beyond_reason_is_refused(file, monkeypatch):
    monkeypatch.setattr(module, "_MOST_ENTRIES", 10)
    assert "10 entries" in refusal(file, table_bytes([(b"%02d" % number, b"") for number in range(20)]))
    with file.open("wb") as out:
        out.truncate((64 << 20) + 1)
    with pytest.raises(ModelError, match="67108865 bytes; an index may have 67108864"):
        read_table(file)


def test_a_file_that_is_shorter_than_the_mark_is_no_table(file):
    file.write_bytes(b"abc")
    assert not is_table(file)
