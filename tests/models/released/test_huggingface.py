"""Safetensors, models in several files, folders, and the opening of whatever is named."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from fenghuo.errors import ModelError
from fenghuo.models.released.huggingface import read_folder, read_index, read_safetensors
from fenghuo.models.released.opening import open_stored
from fenghuo.models.released.stored import Stored

ARRAYS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(3).half(), "c": torch.ones(2).bfloat16()}
PADDLE = Path(__file__).parent / "fixtures" / "paddle"


def assert_same(stored, wanted=ARRAYS):
    assert dict(stored.shapes) == {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    for name, tensor in wanted.items():
        assert stored[name].dtype == tensor.dtype
        assert torch.equal(stored[name], tensor)


def test_a_safetensors_file_is_read(tmp_path):
    save_file(ARRAYS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    stored = read_safetensors(tmp_path / "x.safetensors")
    assert_same(stored)
    assert stored.format == "safetensors"
    with pytest.raises(KeyError):
        stored["d"]


def test_what_was_read_outlives_the_file(tmp_path):
    """A view of the file would change with it, or end the process where it is cut short."""
    save_file(ARRAYS, tmp_path / "x.safetensors")
    tensor = read_safetensors(tmp_path / "x.safetensors")["a"]
    (tmp_path / "x.safetensors").write_bytes(b"")
    assert torch.equal(tensor, ARRAYS["a"])


def with_header(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2**62) + b"{}",
        with_header(b"{"),
        with_header({"a": {"dtype": "F32", "shape": [10**9, 1024], "data_offsets": [0, 8]}}, bytes(8)),
        with_header({"a": {"dtype": "F32", "shape": [10**18, 10**18], "data_offsets": [0, 8]}}, bytes(8)),
        with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, bytes(8)),
        with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(7)),
        with_header({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        with_header({"a": 3}),
        with_header([]),
    ],
)
def test_a_damaged_safetensors_file_is_an_error(tmp_path, raw):
    (tmp_path / "x.safetensors").write_bytes(raw)
    with pytest.raises(ModelError, match=r"x\.safetensors"):
        read_safetensors(tmp_path / "x.safetensors")


def test_absent_files_are_errors(tmp_path):
    for read in (read_safetensors, read_index, read_folder, open_stored):
        with pytest.raises(ModelError):
            read(tmp_path / "none")


@given(data=st.data())
def test_no_damage_gives_anything_but_an_error_or_arrays(tmp_path_factory, data):
    raw = bytearray(save(ARRAYS))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damage") / "x.safetensors"
    path.write_bytes(raw)
    try:
        stored = read_safetensors(path)
        for name in stored:
            assert tuple(stored[name].shape) == stored.shapes[name]
    except ModelError:
        pass


def sharded(folder, kind="safetensors"):
    write = save_file if kind == "safetensors" else torch.save
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{number}-of-00002.{kind}" for number in (1, 2)]
    write({"a": ARRAYS["a"], "b": ARRAYS["b"]}, folder / names[0])
    write({"c": ARRAYS["c"], "extra": torch.ones(1)}, folder / names[1])
    index = folder / f"{stem}.{kind}.index.json"
    told = {"metadata": {}, "weight_map": {"a": names[0], "b": names[0], "c": names[1]}}
    index.write_text(json.dumps(told))
    return index, told, names


@pytest.mark.parametrize(("kind", "format"), [("safetensors", "safetensors"), ("bin", "pytorch")])
def test_a_model_in_several_files_is_one(tmp_path, kind, format):
    index, _, names = sharded(tmp_path, kind)
    for stored in (read_index(index), open_stored(index), read_folder(tmp_path), open_stored(tmp_path)):
        assert_same(stored)
        assert stored.format == format
        assert stored.skipped == (f"{names[1]}: extra",)


def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path):
    index, told, names = sharded(tmp_path)
    for files, why in [
        ({"a": names[0], "z": names[0]}, f"z is not in {names[0]}"),
        ({"a": "gone.safetensors"}, r"gone\.safetensors is missing"),
        ({"a": f"../{names[0]}"}, "not below"),
        ({"a": f"x/../../{names[0]}"}, "not below"),
        ({"a": str(tmp_path / names[0])}, "not below"),
        ({"a": "C:x.bin"}, "not below"),
        ({"a": "..\\x.bin"}, "not below"),
        ({"a": ""}, "not below"),
        ({"a": 3}, "not an index"),
        ({}, "not an index"),
        ([], "not an index"),
    ]:
        index.write_text(json.dumps(told | {"weight_map": files}))
        with pytest.raises(ModelError, match=why):
            read_index(index)
    for text in (
        "",
        "{",
        "[]",
        "3",
        '{"weight_map"',
        "[" * 100_000,
        "\udcff".encode("utf-8", "surrogatepass"),
    ):
        index.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ModelError, match="not an index"):
            read_index(index)


def test_a_folder_gives_the_best_kind_it_has(tmp_path):
    """Each is put beside those that were there, worst first, and takes their place."""
    write_checkpoint(tmp_path / "model.ckpt.index")
    (tmp_path / "training_args.bin").write_bytes(b"x")
    (tmp_path / "optimizer.pt").write_bytes(b"x")
    for name, write in [
        ("weights.pth", torch.save),
        ("weights.safetensors", save_file),
        ("ernie.pdparams", lambda _, path: shutil.copy(PADDLE / "nested.pdparams", path)),
        ("model_state.pdparams", lambda _, path: shutil.copy(PADDLE / "nested.pdparams", path)),
        ("pytorch_model.bin", torch.save),
        ("model.safetensors", save_file),
    ]:
        write(ARRAYS, tmp_path / name)
        assert read_folder(tmp_path).path == tmp_path / name


def test_two_candidates_in_a_folder_are_named(tmp_path):
    for name in ("one.bin", "two.pt"):
        torch.save(ARRAYS, tmp_path / name)
    with pytest.raises(ModelError, match=r"name one: one\.bin, two\.pt"):
        read_folder(tmp_path)


def test_a_folder_without_weights_says_what_is_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no weights.*Found: config\.json"):
        read_folder(tmp_path)


def write_checkpoint(path):
    path.write_bytes(b"")


@pytest.fixture
def tensorflow(monkeypatch):
    """The prefixes that the reader of TensorFlow's checkpoints is asked for."""
    asked = []
    module = types.ModuleType("tensorflow")

    def read_tensorflow(prefix):
        asked.append(prefix.name)
        return Stored(path=prefix, format="tensorflow", shapes={}, read=ARRAYS.__getitem__)

    module.read_tensorflow = read_tensorflow
    monkeypatch.setitem(sys.modules, "fenghuo.models.released.tensorflow", module)
    return asked


def test_a_checkpoint_is_opened_by_its_prefix_its_index_or_its_folder(tmp_path, tensorflow):
    write_checkpoint(tmp_path / "model.ckpt-100.index")
    for path in (tmp_path / "model.ckpt-100", tmp_path / "model.ckpt-100.index", tmp_path):
        assert open_stored(path).format == "tensorflow"
    assert tensorflow == ["model.ckpt-100"] * 3


def test_files_are_opened_by_their_suffix_or_their_first_bytes(tmp_path):
    save_file(ARRAYS, tmp_path / "x.safetensors")
    torch.save(ARRAYS, tmp_path / "x.pt")
    torch.save(ARRAYS, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    for name, format in [("x.safetensors", "safetensors"), ("x.pt", "pytorch"), ("x.pth", "pytorch")]:
        for path in (tmp_path / name, shutil.copy(tmp_path / name, tmp_path / "blob")):
            stored = open_stored(path)
            assert stored.format == format
            assert_same(stored)
    for path in (
        PADDLE / "protocol2.pdparams",
        shutil.copy(PADDLE / "protocol4.pdparams", tmp_path / "blob"),
        PADDLE / "variables",
    ):
        assert open_stored(path).format == "paddle"
    with pytest.raises(ModelError, match="without names"):
        open_stored(PADDLE / "__params__")


def test_what_is_of_no_known_kind_is_told(tmp_path):
    (tmp_path / "x.txt").write_text("hello, world")
    with pytest.raises(ModelError, match="not weights of"):
        open_stored(tmp_path / "x.txt")
    shutil.make_archive(str(tmp_path / "x"), "zip", PADDLE)
    with pytest.raises(ModelError, match="an archive"):
        open_stored(tmp_path / "x.zip")
