"""The exported file computes what torch computes, on any ragged batch, and carries nothing of this machine."""

from __future__ import annotations

import errno
import os
import shutil

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compress.small_models import PIECES, make_model

from fenghuo.compress import export as export_module
from fenghuo.compress.export import FILE, QUANTIZED_FILE, export, is_current
from fenghuo.compress.onnx_call import INPUTS, call, open_session, pad
from fenghuo.errors import DiskError, ModelError, RunError
from fenghuo.models.folder import load_model, save_model
from fenghuo.serve.predictor import load_predictor

pytestmark = pytest.mark.slow  # exporting starts with seconds of imports

sequences = st.lists(
    st.lists(st.integers(5, len(PIECES) - 1), min_size=1, max_size=80), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=60)
@given(ids=sequences, turn=st.integers(0, 80))
def test_any_ragged_batch_gives_what_torch_gives(exported, ids, turn):
    framed = [(np.array(one), (np.arange(len(one)) >= turn).astype(np.int64)) for one in ids]
    inputs = pad(framed, 0)
    with torch.inference_mode():
        wanted = load_model(exported)(*(torch.from_numpy(inputs[name]) for name in INPUTS)).logits.numpy()
    found = call(open_session(exported / FILE), inputs)
    assert np.abs(wanted - found).max() <= 1e-4


def test_the_file_has_the_named_inputs_with_dynamic_sizes_and_no_trace_of_this_machine(exported):
    model = onnx.load(exported / FILE)
    sizes = {
        one.name: [size.dim_param or size.dim_value for size in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    assert sizes == {name: ["batch", "length"] for name in INPUTS} | {"logits": ["batch", 3]}
    onnx.checker.check_model(model, full_check=True)
    data = (exported / FILE).read_bytes()
    assert b"/" not in b"".join(node.SerializeToString() for node in model.graph.node)
    assert b"stack_trace" not in data
    assert [path.name for path in (exported / "onnx").iterdir()] == ["model.onnx"]


def test_the_predictor_answers_alike_with_torch_and_with_onnx(exported):
    texts = ["我们在中国", "这是不可以的", "大", "有人要来用" * 30]
    answers = [load_predictor(exported, backend=name)(texts, all_scores=True) for name in ("onnx", "torch")]
    for ours, theirs in zip(*answers, strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-4)


@pytest.mark.parametrize(("family", "task"), [("bert", "tag"), ("nezha", "tag"), ("bert", None)])
def test_tags_and_headless_encoders_go_into_a_copy_quietly(tmp_path, capfd, family, task):
    folder = make_model(tmp_path / "model", family=family, task=task)
    done = export(folder, out=tmp_path / "copy")
    assert done.path == tmp_path / "copy" / FILE
    assert done.max_difference <= 1e-4
    assert done.batches > 15
    assert not (folder / "onnx").exists()
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    (output,) = onnx.load(done.path).graph.output
    assert output.name == ("logits" if task else "last_hidden_state")
    out, err = capfd.readouterr()
    assert out == ""
    begun, done_line = err.splitlines()
    assert begun == f"exporting {folder}"
    assert "differ from torch by at most" in done_line


def test_a_file_made_from_other_weights_is_known(folder):
    assert is_current(folder)
    model = load_model(folder)
    with torch.no_grad():
        model.head.out.bias.add_(1)
    save_model(model, folder)
    assert not is_current(folder)
    (folder / FILE).unlink()
    assert not is_current(folder)


def test_a_quantized_file_of_older_weights_does_not_survive_an_export(folder, monkeypatch):
    (folder / QUANTIZED_FILE).write_bytes(b"of older weights")
    graph = onnx.load(folder / FILE)
    del graph.metadata_props[:]
    monkeypatch.setattr(export_module, "to_onnx", lambda _: graph)
    export(folder)
    assert not (folder / QUANTIZED_FILE).exists()
    assert is_current(folder)


def test_a_graph_that_computes_something_else_is_refused(folder, monkeypatch):
    graph = onnx.load(folder / FILE)
    for tensor in graph.graph.initializer:
        if len(tensor.dims) == 2:
            values = onnx.numpy_helper.to_array(tensor) + np.float32(1e-3)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    monkeypatch.setattr(export_module, "to_onnx", lambda _: graph)
    before = (folder / FILE).read_bytes()
    with pytest.raises(ModelError, match=r"differs from torch by .* nothing was written"):
        export(folder)
    assert (folder / FILE).read_bytes() == before
    with pytest.raises(ModelError):
        export(folder, out=folder.parent / "copy")
    assert not (folder.parent / "copy").exists()


def test_what_cannot_be_exported_is_named(folder, tmp_path, monkeypatch):
    with pytest.raises(RunError, match="there is something in it"):
        export(folder, out=folder)
    with pytest.raises(ModelError, match="not a model folder"):
        export(tmp_path / "nowhere")
    monkeypatch.setattr(export_module, "LARGEST_BYTES", 1000)
    with pytest.raises(ModelError, match="more than one ONNX file can hold"):
        export(folder)


def test_a_disk_that_fills_while_the_model_is_copied_is_told_once(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    def full(source, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)

    real = shutil.copytree
    monkeypatch.setattr(shutil, "copytree", lambda *a, **named: real(*a, copy_function=full, **named))
    with pytest.raises(DiskError) as told:
        export(folder, out=tmp_path / "out")
    assert str(told.value).startswith(f"cannot write {tmp_path / 'out'}: No space left on device (")
    assert not (tmp_path / "out").exists()
