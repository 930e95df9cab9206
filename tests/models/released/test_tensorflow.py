"""TensorFlow's checkpoints: those that TensorFlow wrote are read, ours are TensorFlow's, and damage is found.

The fixtures and the values in them come from `make_tensorflow.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fenghuo.errors import DiskError, ModelError
from fenghuo.models.released.bundle_index import (
    NUMBERS,
    Entry,
    entry_bytes,
    header_bytes,
    read_entry,
    slice_key,
)
from fenghuo.models.released.crc32c import masked_crc32c
from fenghuo.models.released.table import read_table, table_bytes
from fenghuo.models.released.tensorflow import read_tensorflow, write_tensorflow
from fenghuo.models.released.wire import bytes_field, number_field

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures" / "tensorflow"
MADE = ("bert", "kinds", "shards", "slices", "blocks")
DATA = ".data-00000-of-00001"
TENSORFLOW = os.environ.get("FENGHUO_TENSORFLOW")


def fixture(name: str) -> Path:
    return FIXTURES / f"{name}.ckpt"


def values_of(name: str) -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / f"{name}.safetensors")


def same(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Bit by bit, so that NaN is NaN and -0 is not 0."""
    if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        return False
    return torch.equal(*(x.contiguous().reshape(-1).view(torch.uint8) for x in (mine, theirs)))


def assert_same(found, wanted) -> None:
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert same(found[name], value), name


def with_ending(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint")


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of three arrays, and a way to change what its index says."""

    class Saved:
        prefix = tmp_path / "model.ckpt"
        index, data = tmp_path / "model.ckpt.index", tmp_path / f"model.ckpt{DATA}"

        def __init__(self) -> None:
            self.arrays = {
                "a": torch.arange(6.0).reshape(2, 3),
                "b": torch.tensor(True),
                "c": torch.ones(5).half(),
            }
            write_tensorflow(self.prefix, self.arrays)

        def change(self, **entries: bytes | None) -> None:
            table = {**read_table(self.index), **{name.encode(): value for name, value in entries.items()}}
            self.put({key: value for key, value in table.items() if value is not None})

        def entry(self, name: str, **changes) -> None:
            old = read_entry(read_table(self.index)[name.encode()])
            self.change(**{name: entry_bytes(replace(old, **changes))})

        def put(self, table: dict[bytes, bytes]) -> None:
            self.index.write_bytes(table_bytes(sorted(table.items())))

        def refusal(self) -> str:
            with pytest.raises(ModelError) as told:
                dict(read_tensorflow(self.prefix))
            return str(told.value)

    return Saved()


@pytest.mark.parametrize("name", MADE)
def test_what_tensorflow_wrote_is_read_bit_by_bit(name):
    stored = read_tensorflow(fixture(name))
    wanted = values_of(name)
    assert (stored.path, stored.format) == (fixture(name), "tensorflow")
    assert stored.shapes == {key: tuple(value.shape) for key, value in wanted.items()}
    assert stored.skipped == (("text",) if name == "kinds" else ())
    assert_same(stored, wanted)


def test_what_we_write_is_byte_for_byte_what_tensorflow_wrote(tmp_path):
    write_tensorflow(tmp_path / "bert.ckpt", values_of("bert"))
    for ending in (".index", DATA):
        assert (tmp_path / f"bert.ckpt{ending}").read_bytes() == with_ending(
            fixture("bert"), ending
        ).read_bytes()
    assert (tmp_path / "checkpoint").read_text() == (
        'model_checkpoint_path: "bert.ckpt"\nall_model_checkpoint_paths: "bert.ckpt"\n'
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "bert.ckpt" + DATA,
        "bert.ckpt.index",
        "checkpoint",
    ]


@pytest.mark.slow
@pytest.mark.skipif(TENSORFLOW is None, reason="FENGHUO_TENSORFLOW names no Python that has TensorFlow")
@pytest.mark.parametrize("name", ["kinds", "many"])
def test_tensorflow_reads_what_we_write(tmp_path, name):
    prefix = tmp_path / 'a "模".ckpt'
    arrays = values_of("kinds")
    if name == "many":  # names so long that the index has several blocks
        arrays = {f"{number:04d}/{'层' * 70}": torch.randn(number % 7) for number in range(1500)}
    write_tensorflow(prefix, arrays)
    assert (with_ending(prefix, ".index").stat().st_size > 1 << 18) == (name == "many")
    save_file(arrays, tmp_path / "values.safetensors")
    words = [
        TENSORFLOW,
        HERE / "make_tensorflow.py",
        "--check",
        prefix,
        "--values",
        tmp_path / "values.safetensors",
    ]
    ended = subprocess.run(
        words,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert f"read {len(arrays)} arrays, all bits the same" in ended.stdout


NAMES = st.text(min_size=1, max_size=9).filter(lambda name: name[0] != "\0" and not has_surrogate(name))
KINDS = sorted(NUMBERS, key=str)


def has_surrogate(name: str) -> bool:
    return any(0xD800 <= ord(letter) < 0xE000 for letter in name)


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    kind, seed = draw(st.sampled_from(KINDS)), draw(st.integers(0, 999))
    bits = torch.randint(256, (*shape, kind.itemsize), generator=torch.Generator().manual_seed(seed))
    if kind == torch.bool:
        return bits[..., 0] > 127
    return bits.to(torch.uint8).view(kind)[..., 0]


@settings(max_examples=60)
@given(st.dictionaries(NAMES, tensors(), max_size=8))
def test_what_is_written_is_read_bit_by_bit(folder, arrays):
    write_tensorflow(folder / "round.ckpt", arrays)
    assert_same(read_tensorflow(folder / "round.ckpt"), arrays)


def test_arrays_that_are_views_are_written_as_they_look(tmp_path):
    whole = torch.randn(6, 4, dtype=torch.complex64)
    arrays = {
        "turned": whole.T,
        "part": whole[1::2, 1:3],
        "conjugate": whole.conj(),
        "imaginary": whole.conj().imag,
    }
    arrays["parameter"] = torch.nn.Parameter(torch.randn(3))
    write_tensorflow(tmp_path / "views", arrays)
    assert_same(read_tensorflow(tmp_path / "views"), {name: x.detach().clone() for name, x in arrays.items()})


def test_a_file_of_the_checkpoint_stands_for_it(tmp_path):
    for ending in ("", ".index", ".meta", ".data-00000-of-00002"):
        assert read_tensorflow(with_ending(fixture("shards"), ending)).path == fixture("shards")
    write_tensorflow(tmp_path / "x.index", {"a": torch.ones(1)})
    assert list(read_tensorflow(tmp_path / "x.index")) == ["a"], "an odd prefix is still itself"


def test_nothing_is_read_before_it_is_looked_up(saved):
    stored = read_tensorflow(saved.prefix)
    content = saved.data.read_bytes()
    saved.data.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert torch.equal(stored["c"], saved.arrays["c"])
    with pytest.raises(
        ModelError, match=r"00001: a: damaged: its bytes have the checksum \w{8}, the index says"
    ):
        stored["a"]
    saved.data.write_bytes(content[:-3])
    with pytest.raises(ModelError, match="c: 7 bytes are left of 10"):
        stored["c"]
    saved.data.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        stored["c"]
    with pytest.raises(KeyError):
        stored["d"]


def test_a_missing_file_is_named(saved):
    saved.data.unlink()
    assert saved.refusal() == f"{saved.data} is missing; model.ckpt.index is there and needs it"
    write_tensorflow(saved.prefix, saved.arrays)
    saved.index.unlink()
    assert saved.refusal() == f"{saved.prefix}.index is missing; model.ckpt{DATA} is there"


def test_a_path_that_is_no_checkpoint_says_what_it_is(saved, tmp_path):
    with pytest.raises(ModelError, match=r"no model\.cpkt\.index\. Did you mean 'model\.ckpt'\?"):
        read_tensorflow(tmp_path / "model.cpkt")
    with pytest.raises(ModelError, match="a folder; give the checkpoint in it"):
        read_tensorflow(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_tensorflow(tmp_path / "absent" / "model.ckpt")
    old = tmp_path / "old.ckpt"
    shutil.copy(saved.index, old)
    with pytest.raises(ModelError, match=r"first version, from before TensorFlow 0\.12"):
        read_tensorflow(old)
    old.write_bytes(b"")
    with pytest.raises(ModelError, match="no checkpoint of TensorFlow"):
        read_tensorflow(old)


def test_a_header_that_cannot_be_read_is_refused(saved):
    table = read_table(saved.index)
    for header, told in {
        header_bytes(1) + number_field(2, 1): "the numbers are big-endian",
        number_field(1, 1)
        + bytes_field(3, number_field(2, 2)): "needs a reader of version 2; this one has 1",
        header_bytes(0): "0 data files",
        header_bytes(1 << 40): f"{1 << 40} data files",
        b"\x08": "cut off",
        bytes_field(1, b""): "bytes where a number belongs",
    }.items():
        saved.put(table | {b"": header})
        assert f"{saved.index}: the header: " in saved.refusal()
        assert told in saved.refusal()
    saved.change(**{"": None})
    assert "without the header of a checkpoint" in saved.refusal()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"shape": (10**9, 768)},
            r"a: \(1000000000, 768\) of torch.float32 has 3072000000000 bytes, and 24 are",
        ),
        (
            {"shape": (10**9, 768), "size_bytes": 3072 * 10**9},
            "its bytes end at 3072000000000, and the file has 35",
        ),
        ({"size_bytes": 20}, "has 24 bytes, and 20 are stored"),
        ({"offset": 12}, "a: its bytes end at 36, and the file has 35"),
        ({"offset": (1 << 64) - 1}, f"its bytes end at {(1 << 64) + 23}, and the file has 35"),
        ({"shard": 1}, "lies in data file 1, and the last is 0"),
        ({"kind": 2}, "torch.float64 has 48 bytes, and 24 are stored"),
        ({"shape": (1,) * 65}, "65 dimensions; there may be 64"),
        ({"shape": (1 << 62, 1 << 62, 0), "size_bytes": 0}, "is impossible"),
        ({"shape": ((1 << 64) - 2, 3)}, r"the shape \(-2, 3\) is impossible"),
        ({"crc": 5}, "has the checksum|have the checksum"),
    ],
)
def test_what_the_index_says_is_checked_against_the_files(saved, changes, told):
    saved.entry("a", **changes)
    with pytest.raises(ModelError, match=told):
        dict(read_tensorflow(saved.prefix))


def test_an_entry_of_wrong_fields_is_refused(saved):
    for message, told in {
        bytes_field(1, b"x"): "bytes where a number belongs",
        number_field(2, 3): "a number where bytes belong",
        number_field(1, 1) + bytes_field(2, number_field(3, 1)): "its shape is unknown",
        b"\x0a\x05": "says 5 bytes, and 0 are left",
    }.items():
        saved.change(a=message)
        assert saved.refusal().startswith(f"{saved.index}: a: ")
        assert told in saved.refusal()
    saved.put({b"": header_bytes(1), b"\xff": b""})
    assert "not UTF-8" in saved.refusal()


def test_a_truth_value_is_zero_or_one(saved):
    content = bytearray(saved.data.read_bytes())
    content[24] = 2
    saved.data.write_bytes(content)
    saved.entry("b", crc=masked_crc32c(b"\2"))
    assert "b: a byte of 2 where a truth value has 0 or 1" in saved.refusal()


def sliced(saved, *extents, shape=(2, 3), parts=None, kind=1) -> None:
    """Make `a` an array in slices, of which `parts` have entries."""
    slices = b""
    for slice_ in extents:
        places = b"".join(
            bytes_field(1, number_field(1, start) + (b"" if length < 0 else b"\x10" + bytes([length])))
            for start, length in slice_
        )
        slices += bytes_field(7, places)
    table = {b"": header_bytes(1), b"a": entry_bytes(Entry(kind=kind, shape=shape)) + slices}
    for slice_, part in (parts or {}).items():
        table[slice_key("a", slice_)] = entry_bytes(part)
    saved.put(table)


def test_slices_that_do_not_make_the_array_are_refused(saved):
    content = saved.data.read_bytes()
    top, bottom = ((0, 1), (0, -1)), ((1, 1), (0, -1))
    row = Entry(kind=1, shape=(1, 3), size_bytes=12, crc=masked_crc32c(content[:12]))
    sliced(saved, top, bottom, parts={top: row, bottom: row})
    assert torch.equal(read_tensorflow(saved.prefix)["a"], saved.arrays["a"][:1].expand(2, 3))

    sliced(saved, top, bottom, parts={top: row})
    assert "a: its slice [(1, 1), (0, -1)] is missing" in saved.refusal()
    sliced(saved, top, parts={top: row})
    assert "a: 6 numbers, and 3 in its slices" in saved.refusal()
    sliced(saved, top, top, parts={top: row})
    assert "names a slice twice" in saved.refusal()
    again = ((0, 1), (0, 3))
    sliced(saved, top, again, parts={top: row, again: row})
    assert "its slices overlap" in saved.refusal()
    sliced(saved, ((0, 2),), parts={})
    assert "a slice has 1 dimensions, the whole 2" in saved.refusal()
    outside = ((2, 1), (0, -1))
    sliced(saved, top, outside, parts={top: row, outside: row})
    assert "its slice [(2, 1), (0, 3)] is not within (2, 3)" in saved.refusal()
    sliced(saved, top, bottom, parts={top: row, bottom: replace(row, shape=(3,))})
    assert "a slice of shape (3,) and type 1, and (1, 3) and 1 is meant" in saved.refusal()
    sliced(saved, top, bottom, parts={top: row, bottom: replace(row, offset=30)})
    assert "a, a slice: its bytes end at 42, and the file has 35" in saved.refusal()
    many = [((at, 1), (0, -1)) for at in range(9)]
    sliced(saved, *many, shape=(9, 3), parts=dict.fromkeys(many, row))
    assert "108 bytes, and the data files have 35" in saved.refusal()


def copied(name: str, folder: Path) -> list[Path]:
    """The checkpoint's files in `folder`, fresh."""
    files = [one for one in sorted(FIXTURES.iterdir()) if one.name.startswith(f"{name}.ckpt.")]
    return [Path(shutil.copy(one, folder)) for one in files]


@settings(max_examples=200)
@given(st.data())
def test_any_changed_or_missing_byte_is_found_or_harmless(folder, data):
    name = data.draw(st.sampled_from(MADE))
    wanted = values_of(name)
    file = data.draw(st.sampled_from(copied(name, folder)))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        stored = read_tensorflow(folder / f"{name}.ckpt")
    except ModelError:
        return
    assert sorted(stored) == sorted(wanted)
    for key, value in wanted.items():
        try:
            found = stored[key]
        except ModelError:
            continue
        assert same(found, value)


@settings(max_examples=300)
@given(st.data())
def test_an_index_that_lies_under_right_checksums_gives_arrays_of_the_file_or_a_model_error(folder, data):
    """An enemy can compute a checksum too: nothing but a ModelError may come, nor more than the files hold."""
    name = data.draw(st.sampled_from(MADE))
    index = copied(name, folder)[-1]
    table = read_table(index)
    key = data.draw(st.sampled_from(sorted(table)))
    message = bytearray(table[key])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(message)))
        message[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    table[key] = bytes(message)
    index.write_bytes(table_bytes(table.items()))
    files_bytes = sum(one.stat().st_size for one in folder.glob(f"{name}.ckpt.data*"))
    try:
        stored = read_tensorflow(folder / f"{name}.ckpt")
    except ModelError:
        return
    for array in stored:
        try:
            assert stored[array].nbytes <= files_bytes
        except ModelError:
            continue


def test_a_name_or_a_type_that_has_no_place_is_refused_and_leaves_nothing(tmp_path):
    for arrays, told in (
        ({"": torch.ones(1)}, "no place for an array named ''"),
        ({"\0a": torch.ones(1)}, "no place for"),
        ({"a": torch.ones(1), "b": torch.ones(1).to(torch.float8_e5m2)}, "b: TensorFlow has no number type"),
    ):
        with pytest.raises(ModelError, match=told):
            write_tensorflow(tmp_path / "m.ckpt", arrays)
    with pytest.raises(ModelError, match="a folder; give a name in it"):
        write_tensorflow(Path(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_checkpoint(saved):
    class Failing(dict):
        def __getitem__(self, name):
            if name == "z":
                raise ModelError("no z")
            return torch.zeros(1)

    with pytest.raises(ModelError, match="no z"):
        write_tensorflow(saved.prefix, Failing.fromkeys("abz"))
    assert_same(read_tensorflow(saved.prefix), saved.arrays)
    assert not [one for one in saved.prefix.parent.iterdir() if one.name.startswith(".")]


def test_a_disk_that_refuses_is_told_of(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot write"):
        write_tensorflow(tmp_path / "file" / "m.ckpt", {"a": torch.ones(1)})


def test_a_checkpoint_takes_the_place_of_an_older_one(saved):
    write_tensorflow(saved.prefix, {"d": torch.arange(3)})
    assert_same(read_tensorflow(saved.prefix), {"d": torch.arange(3)})
