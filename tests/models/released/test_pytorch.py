"""Files of torch.save: what is read from them, and that nothing of them runs."""

from __future__ import annotations

import argparse
import builtins
import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.errors import ModelError
from fenghuo.models.released.pytorch import read_pytorch

FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])


def weights():
    torch.manual_seed(0)
    whole = torch.randn(40, 30)
    return OrderedDict(
        {
            "embed.weight": whole,
            "tied.weight": whole,
            "part": whole[3:9, 5:20],
            "turned": whole.t(),
            "half": whole[0].half(),
            "brain": whole[1].bfloat16(),
            "counts": torch.arange(7),
            "truth": torch.tensor([True, False, True]),
            "one": torch.tensor(2.5),
            "none": torch.zeros(0, 3),
            "learned": torch.nn.Parameter(whole[2]),
        }
    )


def save(value, path, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same(stored, wanted):
    assert stored.format == "pytorch"
    assert dict(stored.shapes) == {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    for name, tensor in wanted.items():
        assert stored[name].dtype == tensor.dtype, name
        assert torch.equal(stored[name], tensor), name
        assert stored[name].is_contiguous()


@FORMS
def test_a_table_of_tensors_is_read_to_the_same_bits(tmp_path, zipped):
    stored = read_pytorch(save(weights(), tmp_path / "x.bin", zipped))
    assert_same(stored, weights())
    assert stored.skipped == ()


@FORMS
def test_what_a_module_saves_of_itself_is_read(tmp_path, zipped):
    state = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict()
    assert_same(read_pytorch(save(state, tmp_path / "x.bin", zipped)), state)


BESIDE = {
    "XLM": (
        "model",
        {"params": {"n_words": 9}, "dico_id2word": {0: "<s>", 1: "的"}, "dico_counts": {"的": 1}},
    ),
    "fairseq": ("model", {"args": argparse.Namespace(arch="roberta", lr=[0.1]), "extra_state": {"epoch": 3}}),
    "LASER": ("model", {"params": {"num_embeddings": 9}, "dictionary": {"<s>": 0}}),
    "UniLM": ("state_dict", {"epoch": 1}),
    "DeepSpeed": ("module", {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{}]}}),
    "scripts": ("model_state_dict", {"args": {"out": Path("runs"), "tasks": {"mlm"}, "type": torch.float16}}),
    "numpy": ("net", {"best": np.float64(0.5), "state": np.arange(600)}),
    "unknown": ("generator", {"step": 3}),
}


@FORMS
@pytest.mark.parametrize("project", BESIDE)
def test_the_weights_are_found_beside_what_projects_keep_with_them(tmp_path, project, zipped):
    key, beside = BESIDE[project]
    stored = read_pytorch(save({**beside, key: weights()}, tmp_path / "x.pth", zipped))
    assert_same(stored, weights())
    assert set(stored.skipped) == set(beside)


def test_of_two_known_keys_the_first_is_taken_and_the_other_named(tmp_path):
    stored = read_pytorch(
        save({"weights": {"b": torch.ones(1)}, "model": {"a": torch.ones(1)}}, tmp_path / "x")
    )
    assert list(stored) == ["a"]
    assert stored.skipped == ("weights",)


def test_tables_that_nothing_tells_apart_are_named(tmp_path):
    value = {"teacher": {"a": torch.ones(1)}, "student": {"a": torch.ones(1)}}
    with pytest.raises(ModelError, match=r"nothing tells which holds the weights: student, teacher"):
        read_pytorch(save(value, tmp_path / "x"))


@pytest.mark.parametrize("value", [torch.ones(2), [torch.ones(2)], {}, {"model": {}}, {"a": 1}, 3, None])
def test_what_holds_no_table_of_tensors_is_refused(tmp_path, value):
    with pytest.raises(ModelError, match=r"without a name|not a table|no named arrays"):
        read_pytorch(save(value, tmp_path / "x"))


def test_numpy_arrays_in_the_table_are_arrays_too(tmp_path):
    table = {
        "c": np.arange(1200.0).reshape(30, 40),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array(["a"]),
    }
    stored = read_pytorch(save(table, tmp_path / "x"))
    assert torch.equal(stored["c"], torch.from_numpy(table["c"]))
    assert stored["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert stored.skipped == ("text",)


class Calls:
    def __init__(self, function, *args):
        self.given = function, args

    def __reduce__(self):
        return self.given


@FORMS
@pytest.mark.parametrize("place", ["weights", "beside", "deep"])
@pytest.mark.parametrize(
    ("function", "told"),
    [
        (os.system, "posix.system|nt.system"),
        (eval, "builtins.eval"),
        (exec, "builtins.exec"),
        (getattr, "builtins.getattr"),
        (builtins.__import__, "builtins.__import__"),
        (torch.load, "torch.serialization.load"),
        (np.fromfile, "numpy.fromfile"),
    ],
)
def test_a_file_that_would_run_code_is_refused_by_what_it_calls(tmp_path, function, told, place, zipped):
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()" if function in (eval, exec) else f"touch {marker}"
    evil = Calls(function, builtins, "open") if function is getattr else Calls(function, code)
    if function is getattr:
        evil = Calls(getattr, "text", "upper")
    value = {
        "weights": {**weights(), "evil": evil},
        "beside": {"model": weights(), "args": evil},
        "deep": {"model": weights(), "args": [{"a": (Calls(list, [evil]),)}]},
    }[place]
    path = save(value, tmp_path / "x.bin", zipped)
    with pytest.raises(ModelError, match=f"it calls ({told}),.*nothing in it was executed"):
        read_pytorch(path)
    assert not marker.exists()


def test_a_pickle_in_a_pickle_is_not_opened(tmp_path):
    path = save(
        {"model": weights(), "x": Calls(pickle.loads, b"cos\nsystem\n(S'ls'\ntR.")}, tmp_path / "x.bin"
    )
    with pytest.raises(ModelError, match=r"it calls _?pickle.loads"):
        read_pytorch(path)


def test_arrays_of_python_objects_are_refused(tmp_path):
    path = save({"model": weights(), "x": np.array([{}, []], dtype=object)}, tmp_path / "x.bin")
    with pytest.raises(ModelError, match="an array of Python objects"):
        read_pytorch(path)


@FORMS
def test_a_whole_pickled_model_is_told_from_an_attack(tmp_path, zipped):
    path = save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "model.pt", zipped)
    with pytest.raises(ModelError, match=r"a whole pickled model.*Sequential.*state_dict\(\)"):
        read_pytorch(path)


def test_a_torchscript_program_is_told(tmp_path):
    path = save(weights(), tmp_path / "x.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{archive.namelist()[0].split('/')[0]}/constants.pkl", b"")
    with pytest.raises(ModelError, match="TorchScript"):
        read_pytorch(path)


def tensor_pickle(size, stride, values=4, offset=0):
    """A file of the older form with one tensor that claims whatever it is told."""
    storage = (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + number(values) + b"tQ"
    )
    shape = b"(" + b"".join(map(number, size)) + b"t(" + b"".join(map(number, stride)) + b"t"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + shape + b"\x89)tR"
    heads = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    value = b"\x80\x02}X\x01\0\0\0a" + call + b"s."
    return b"".join((*heads, value, pickle.dumps(["0"], 2), struct.pack("<q", values), bytes(16)))


def number(value):
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


@pytest.mark.parametrize(
    ("size", "stride", "values", "offset"),
    [
        ((10**9, 1024), (1024, 1), 4, 0),
        ((10**9, 1024), (0, 0), 4, 0),
        ((10**9,), (1,), 10**9, 0),
        ((10**18, 10**18), (0, 0), 4, 0),
        ((0, 10**20), (1, 1), 4, 0),
        ((2, 2), (2, 1), 4, 1),
        ((2, 2), (2, 1), 4, -1),
        ((2, 2), (-2, 1), 4, 2),
        ((-2,), (1,), 4, 0),
        ((2, 2), (2,), 4, 0),
        ((1,) * 40, (1,) * 40, 4, 0),
    ],
)
def test_a_tensor_that_claims_more_than_there_is_takes_no_memory(tmp_path, size, stride, values, offset):
    path = tmp_path / "x.bin"
    path.write_bytes(tensor_pickle((2, 2), (2, 1)))
    assert read_pytorch(path)["a"].tolist() == [[0, 0], [0, 0]]

    path.write_bytes(tensor_pickle(size, stride, values, offset))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError):
        read_pytorch(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memo index of 4 billion
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # 8 EiB of bytes
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",  # a frame of as many
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # a number of 2 GiB
        b"\x80\x02(" + b"(" * 10_000 + b"t" * 10_000 + b".",
        b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",  # a key that Python's hash would follow into a crash
        b"\x80\x02}q\0h\0h\0s.",
        b"\x80\x02}\x82\x01.",
        b"",
        b".",
        b"\x80\x02",
    ],
)
def test_pickles_made_to_exhaust_the_reader_are_only_damaged(tmp_path, program):
    path = tmp_path / "x.bin"
    path.write_bytes(program)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError):
        read_pytorch(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_changed_bytes_of_a_tensor_are_noticed_in_a_zip(tmp_path):
    path = save({"a": torch.arange(1000.0)}, tmp_path / "x.bin")
    raw = path.read_bytes()
    at = raw.index(torch.arange(1000.0).numpy().tobytes())
    path.write_bytes(raw[: at + 40] + b"\xff" + raw[at + 41 :])
    with pytest.raises(ModelError, match="a: the bytes differ"):
        read_pytorch(path)["a"]


def test_a_file_that_is_cut_after_it_was_opened_is_an_error(tmp_path):
    path = save(weights(), tmp_path / "x.bin")
    stored = read_pytorch(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="ends early"):
        stored["embed.weight"]


@pytest.mark.parametrize("make", [lambda path: None, Path.touch, os.mkfifo, Path.mkdir])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make):
    make(tmp_path / "x.bin")
    with pytest.raises(ModelError):
        read_pytorch(tmp_path / "x.bin")


SMALL = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.arange(3)}


@FORMS
@given(data=st.data())
def test_no_damage_gives_anything_but_an_error_or_arrays_of_the_same_sizes(tmp_path_factory, zipped, data):
    folder = tmp_path_factory.mktemp("damage")
    raw = bytearray(save({"model": SMALL, "epoch": 3}, folder / "x.bin", zipped).read_bytes())
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "x.bin").write_bytes(raw)
    try:
        stored = read_pytorch(folder / "x.bin")
        for name in stored:
            assert tuple(stored[name].shape) == stored.shapes[name]
            assert stored[name].numel() <= 24
    except ModelError:
        pass
