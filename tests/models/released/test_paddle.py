"""Paddle's files: what Paddle 3.3.1 wrote is read, what is written it reads, and nothing runs."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fenghuo.errors import DiskError, ModelError
from fenghuo.models.released.paddle import read_paddle, write_paddle

FIXTURES = Path(__file__).parent / "fixtures" / "paddle"
VALUES = load_file(FIXTURES / "values.safetensors")


def assert_bits(stored, wanted):
    for name, tensor in wanted.items():
        assert stored.shapes[name] == tuple(stored[name].shape) == tuple(tensor.shape), name
        same = stored[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)
        assert torch.equal(*same), name


@pytest.mark.parametrize("name", ["protocol2.pdparams", "protocol4.pdparams", "nested.pdparams", "variables"])
def test_what_paddle_wrote_is_read_to_the_same_bits(name):
    stored = read_paddle(FIXTURES / name)
    # Paddle's operator that saves variables writes neither truth values nor arrays without any.
    left_out = {"truth", "none"} if name == "variables" else set()
    assert set(stored) == set(VALUES) - left_out
    assert_bits(stored, {name: VALUES[name] for name in stored})
    assert stored["brain_bf16"].dtype == torch.bfloat16
    assert stored["half.w_0"].dtype == torch.float16
    assert stored.format == "paddle"


def test_what_is_no_array_is_named():
    assert read_paddle(FIXTURES / "protocol4.pdparams").skipped == ("StructuredToParameterName@@",)
    assert read_paddle(FIXTURES / "nested.pdparams").skipped == ("epoch",)


def test_an_array_that_paddle_cut_into_parts_is_whole_again():
    stored = read_paddle(FIXTURES / "sliced.pdparams")
    assert dict(stored.shapes) == {"encoder/layer_0.w_0": (3, 100)}
    assert torch.equal(stored["encoder/layer_0.w_0"], VALUES["cube"][0, 0].reshape(3, 100))


def test_parts_that_do_not_make_up_their_array_are_refused(tmp_path):
    for told, why in [
        ({"OriginShape": (10**9, 3), "slices": ["a@@.0", "a@@.1"]}, "do not make up"),
        ({"OriginShape": (2, 3), "slices": ["a@@.0", "a@@.2"]}, "missing"),
        ({"OriginShape": None, "slices": ["a@@.0"]}, "shape"),
        ({"slices": []}, "missing"),
        (3, "missing"),
    ]:
        parts = {"a@@.0": np.arange(3.0), "a@@.1": np.arange(3.0)}
        (tmp_path / "x.pdparams").write_bytes(
            pickle.dumps({**parts, "UnpackBigParamInfor@@": {"a": told}}, 2)
        )
        with pytest.raises(ModelError, match=why):
            read_paddle(tmp_path / "x.pdparams")


def test_a_pickle_of_python_2_is_read(tmp_path):
    """Bytes are `str` there, which protocol 2 writes as they are: ERNIE 1.0's time."""
    long = np.arange(2000, dtype="<f4").tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR(K\x01%scnumpy\ndtype\n"
        b"(U\x02f4K\0K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89%stb"
    )
    short = array % (b"K\x02\x85", b"U\x08" + np.array([1.5, 200.0], "<f4").tobytes())
    (tmp_path / "x.pdparams").write_bytes(
        b"\x80\x02}(U\x01a%sU\x01b%su."
        % (short, array % (b"M\xd0\x07\x85", b"T" + struct.pack("<i", len(long)) + long))
    )
    stored = read_paddle(tmp_path / "x.pdparams")
    assert stored["a"].tolist() == [1.5, 200.0]
    assert torch.equal(stored["b"], torch.arange(2000.0))


@pytest.mark.parametrize("target", ["x.pdparams", "variables"])
def test_what_is_written_is_read_again(tmp_path, target):
    arrays = read_paddle(FIXTURES / "protocol4.pdparams")
    write_paddle(tmp_path / target, arrays)
    again = read_paddle(tmp_path / target)
    assert set(again) == set(arrays)
    assert again.skipped == ()
    assert_bits(again, VALUES)
    assert again["brain_bf16"].dtype == torch.bfloat16


def test_a_written_file_is_what_numpy_unpickles(tmp_path):
    turned = torch.arange(6.0).reshape(2, 3).t()
    write_paddle(tmp_path / "x.pdparams", {"风": turned, "i": torch.arange(3), "b": torch.tensor([True])})
    loaded = pickle.loads((tmp_path / "x.pdparams").read_bytes(), encoding="latin1")
    assert loaded["风"].tolist() == turned.tolist()
    assert loaded["i"].dtype == np.int64
    assert loaded["b"].dtype == np.bool_


@pytest.mark.parametrize("target", ["x.pdparams", "variables"])
def test_paddle_itself_reads_what_is_written(tmp_path, target):
    python = os.environ.get("FENGHUO_PADDLE")
    if not python:
        pytest.skip("FENGHUO_PADDLE names no Python with paddlepaddle (see make_paddle.py)")
    write_paddle(tmp_path / target, read_paddle(FIXTURES / "protocol4.pdparams"))
    script = Path(__file__).with_name("make_paddle.py")
    values = FIXTURES / "values.safetensors"
    command = [python, "-W", "ignore", script, "--check", tmp_path / target, "--values", values]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "paddle.load: 10 arrays, bit for bit" in done.stdout


def test_numbers_that_paddle_has_not_are_refused_and_the_old_file_stays(tmp_path):
    arrays = {"a": torch.ones(2), "b": torch.ones(2).to(torch.float8_e5m2)}
    write_paddle(tmp_path / "x.pdparams", {"a": torch.zeros(2)})
    for target in ("x.pdparams", "variables"):
        with pytest.raises(ModelError, match=r"b: Paddle keeps no numbers of type torch\.float8_e5m2"):
            write_paddle(tmp_path / target, arrays)
    assert read_paddle(tmp_path / "x.pdparams")["a"].tolist() == [0, 0]
    assert [one.name for one in tmp_path.iterdir()] == ["x.pdparams"]


@pytest.mark.parametrize(
    "names",
    [["../x"], ["/x"], ["a//b"], [""], ["a\\b"], ["a/./b"], ["C:x"], ["a", "a/b"], ["a", "A"], ["x" * 300]],
)
def test_names_that_are_no_files_are_refused(tmp_path, names):
    with pytest.raises(ModelError):
        write_paddle(tmp_path / "variables", dict.fromkeys(names, torch.ones(1)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path):
    (tmp_path / "vocab.txt").write_text("x")
    with pytest.raises(ModelError, match="holds something already"):
        write_paddle(tmp_path, {"a": torch.ones(1)})


def test_a_disk_that_refuses_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot write"):
        write_paddle(tmp_path / "file" / "x.pdparams", {"a": torch.ones(1)})


def test_arrays_without_names_are_told():
    with pytest.raises(ModelError, match="without names"):
        read_paddle(FIXTURES / "__params__")


def test_a_folder_with_such_a_file_is_told_too(tmp_path):
    shutil.copy(FIXTURES / "__params__", tmp_path)
    with pytest.raises(ModelError, match="without names"):
        read_paddle(tmp_path)


def test_other_files_of_a_folder_are_named(tmp_path):
    shutil.copytree(FIXTURES / "variables", tmp_path / "params")
    (tmp_path / "params" / "encoder" / "notes.txt").write_text("x")
    (tmp_path / "params" / "empty").touch()
    (tmp_path / "params" / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "params" / "pipe")
    stored = read_paddle(tmp_path / "params")
    assert set(stored.skipped) == {"encoder/notes.txt", "empty", "gone", "pipe"}
    assert len(stored) == 8
    (tmp_path / "none").mkdir()
    with pytest.raises(ModelError, match="no variables"):
        read_paddle(tmp_path / "none")


@pytest.mark.parametrize("make", [lambda path: None, Path.touch, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make):
    make(tmp_path / "x.pdparams")
    with pytest.raises(ModelError):
        read_paddle(tmp_path / "x.pdparams")


class Calls:
    def __init__(self, function, *args):
        self.given = function, args

    def __reduce__(self):
        return self.given


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.system, eval, getattr, __import__, pickle.loads, torch.load])
def test_a_file_that_would_run_code_is_refused_by_what_it_calls(tmp_path, function, protocol):
    marker = tmp_path / "ran"
    path = tmp_path / "x.pdparams"
    evil = (
        Calls(function, f"touch {marker}", "upper")
        if function is getattr
        else Calls(function, f"touch {marker}")
    )
    path.write_bytes(pickle.dumps({"a": np.ones(2), "x": [evil]}, protocol))
    with pytest.raises(ModelError, match=rf"it calls \S*{function.__name__}.*nothing in it was executed"):
        read_paddle(path)
    assert not marker.exists()


@pytest.mark.parametrize("array", [np.array([{}, os.system], dtype=object), np.array([None])])
def test_arrays_of_python_objects_are_refused(tmp_path, array):
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"a": array}, 4))
    with pytest.raises(ModelError, match=r"Python objects|calls"):
        read_paddle(tmp_path / "x.pdparams")


def variable(extents, data, kind=5):
    described = b"\x08" + bytes([kind]) + b"".join(b"\x10" + varint(extent) for extent in extents)
    return struct.pack("<IQIi", 0, 0, 0, len(described)) + described + data


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def test_levels_of_detail_and_packed_extents_are_read(tmp_path):
    """Both are in the format, and Paddle itself writes neither for weights."""
    levels = struct.pack("<IQQ2QQ3Q", 0, 2, 16, 0, 1, 24, 0, 1, 2)
    described = b"\x08\x05\x12\x02\x02\x03"
    (tmp_path / "a").write_bytes(
        levels + struct.pack("<Ii", 0, len(described)) + described + np.arange(6, dtype="<f4").tobytes()
    )
    assert read_paddle(tmp_path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "raw",
    [
        variable((10**9, 1024), bytes(8)),
        variable((2**62, 2**62), bytes(8)),
        variable((0, 2**63), b""),
        variable((2**64 - 1,), bytes(8)),
        variable((2,), bytes(7)),
        variable((2,), bytes(8), kind=99),
        variable((2,), bytes(8))[:20],
        struct.pack("<IQ", 0, 2**63),
        struct.pack("<IQQ", 0, 1, 2**64 - 1) + bytes(64),
        struct.pack("<IQIi", 0, 0, 0, -1) + bytes(64),
        struct.pack("<IQIi", 0, 0, 0, 12) + b"\x08\x05\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        struct.pack("<IQIi", 0, 0, 7, 2) + b"\x08\x05",
    ],
)
def test_a_variable_that_claims_more_than_there_is_takes_no_memory(tmp_path, raw):
    (tmp_path / "a").write_bytes(raw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError):
        read_paddle(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_array_that_claims_a_billion_rows_takes_no_memory(tmp_path, protocol):
    raw = pickle.dumps({"a": np.ones((3, 5), "f4"), "b": np.ones((3, 2000), "f4")}, protocol)
    claim = b"J\x00\xca\x9a\x3b"  # 10**9
    for extent in (b"K\x03K\x05", b"K\x03M\xd0\x07"):
        assert raw.count(extent) == 1
        (tmp_path / "x.pdparams").write_bytes(raw.replace(extent, claim + extent[2:]))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ModelError, match="claims"):
            read_paddle(tmp_path / "x.pdparams")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_bytes_kept_as_text_are_counted_when_they_are_read(tmp_path):
    """Between half and all of the text's bytes can be meant: protocol 2."""
    array = np.full(2000, -1.0, "f4")
    raw = pickle.dumps({"a": array}, 2)
    (tmp_path / "x.pdparams").write_bytes(raw.replace(b"M\xd0\x07", b"M\xd1\x07"))
    stored = read_paddle(tmp_path / "x.pdparams")
    with pytest.raises(ModelError, match="a: "):
        stored["a"]


@pytest.mark.parametrize("name", ["protocol2.pdparams", "protocol4.pdparams", "sliced.pdparams"])
@given(data=st.data())
def test_no_damage_of_a_pickle_gives_anything_but_an_error_or_arrays(tmp_path_factory, name, data):
    path = tmp_path_factory.mktemp("damage") / "x.pdparams"
    path.write_bytes(damaged((FIXTURES / name).read_bytes(), data))
    assert_error_or_arrays(path)


@pytest.mark.parametrize("name", ["half.w_0", "cube", "one"])
@given(data=st.data())
def test_no_damage_of_a_variable_gives_anything_but_an_error_or_arrays(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("damage")
    (folder / name).write_bytes(damaged((FIXTURES / "variables" / name).read_bytes(), data))
    shutil.copy(FIXTURES / "variables" / "counts", folder)
    assert_error_or_arrays(folder)


def damaged(raw, data):
    if data.draw(st.booleans()):
        return raw[: data.draw(st.integers(0, len(raw) - 1))]
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


def assert_error_or_arrays(path):
    try:
        stored = read_paddle(path)
        for name in stored:
            assert tuple(stored[name].shape) == stored.shapes[name]
            assert stored[name].numel() <= 4096
    except ModelError:
        pass
