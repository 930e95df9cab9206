"""int8: smaller, near, without the ways in which it goes wrong in silence."""

from __future__ import annotations

import json
import platform
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from tests.compress.small_models import PIECES, make_model

from fenghuo.compress import export as export_module
from fenghuo.compress import int8
from fenghuo.compress import quantize as quantize_module
from fenghuo.compress.export import FILE, QUANTIZED_FILE, export, is_current
from fenghuo.compress.int8 import needs_reduced_range, operators, quantize
from fenghuo.compress.onnx_call import call, open_session, pad
from fenghuo.compress.quantize import agreement, plan, run
from fenghuo.compress.recipe import QuantizeRecipe
from fenghuo.config import build_recipe
from fenghuo.errors import DiskError, GateError, ModelError, RecipeError
from fenghuo.models.start import weights_file
from fenghuo.rundir import RunDir, sha256_of
from fenghuo.serve.predictor import load_predictor

pytestmark = pytest.mark.slow  # exporting starts with seconds of imports

TEXTS = ["".join(np.random.default_rng(seed).choice(PIECES[5:], 3 + seed % 40)) for seed in range(60)]


@pytest.fixture
def rows(folder):
    """A file on which the unquantized model is always right."""
    labels = [answer["label"] for answer in load_predictor(folder, backend="onnx")(TEXTS)]
    assert len(set(labels)) > 1
    path = folder.parent / "rows.tsv"
    path.write_text("\n".join(["text\tlabel", *map("\t".join, zip(TEXTS, labels, strict=True))]) + "\n")
    return path


def quantized(recipe: QuantizeRecipe, out) -> RunDir:
    made = RunDir.open(out, verb="quantize", recipe=recipe)
    run(recipe, made)
    return made


def test_a_run_holds_both_files_their_figures_and_where_they_came_from(folder, rows, tmp_path):
    values = {"model": str(folder), "evaluate": {"data": {"test": str(rows)}, "max_drop": 20}}
    made = quantized(build_recipe(QuantizeRecipe, values), tmp_path / "run")
    result = RunDir.read_result(made.path)
    assert result["role"] == "quantized"
    assert result["task"] == "classify"
    assert result["metric"] == "accuracy"
    assert result["value_before"] == 1.0
    assert result["value"] == result["test"]["accuracy"] == pytest.approx(1 - result["drop"] / 100)
    assert result["value"] == pytest.approx(result["agreement"])
    assert result["agreement"] >= 0.9
    assert 0 < result["max_logit_difference"] < 1
    assert result["examples_file"] == str(rows)
    assert result["bytes"] == {name: (made.model / name).stat().st_size for name in result["bytes"]}
    assert result["bytes"][QUANTIZED_FILE] < result["bytes"][FILE] * 0.6
    assert (made.model / FILE).read_bytes() == (folder / FILE).read_bytes()
    assert (made.model / "README.md").is_file()
    inputs = RunDir.read_environment(made.path)["inputs"]
    assert [one["role"] for one in inputs] == ["model", "data"]
    assert inputs[0]["sha256"] == sha256_of(weights_file(folder))
    predict = load_predictor(made.path)
    assert predict.backend == "int8"
    assert len({answer["label"] for answer in predict(TEXTS)}) > 1


def test_weights_in_a_pickle_are_quantized_too(folder, tmp_path, monkeypatch):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert not is_current(folder)
    graph = onnx.load(folder / FILE)
    del graph.metadata_props[:]
    monkeypatch.setattr(export_module, "to_onnx", lambda _: graph)
    export(folder)
    assert is_current(folder)
    recipe = build_recipe(QuantizeRecipe, {"model": str(folder)})
    made = quantized(recipe, tmp_path / "run")
    assert list(RunDir.read_result(made.path)["bytes"]) == ["pytorch_model.bin", FILE, QUANTIZED_FILE]
    (given,) = RunDir.read_environment(made.path)["inputs"]
    assert given["path"] == str(folder / "pytorch_model.bin")
    assert load_predictor(made.path).backend == "int8"
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="no weights that can be read"):
        quantized(recipe, tmp_path / "none")


def test_the_gate_closes_before_a_model_is_written(folder, rows, tmp_path, monkeypatch):
    def ruined(path, *, reduce_range):
        graph = quantize(path, reduce_range=reduce_range)
        for tensor in graph.graph.initializer:
            if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2:
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.int8), tensor.name))
        return graph

    monkeypatch.setattr(quantize_module, "quantize", ruined)
    values = {"model": str(folder), "evaluate": {"data": {"dev": str(rows)}, "max_drop": 0.5}}
    recipe = build_recipe(QuantizeRecipe, values)
    with pytest.raises(GateError, match=r"more than 0.5 points lost .* accuracy 1\.0000 → 0\.") as failure:
        quantized(recipe, tmp_path / "run")
    assert failure.value.exit_code == 3
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "result.json").exists()
    assert "of the answers stayed" in (tmp_path / "run" / "log.txt").read_text()
    looser = build_recipe(QuantizeRecipe, {"model": str(folder), "evaluate": {"data": {"dev": str(rows)}}})
    assert RunDir.read_result(quantized(looser, tmp_path / "open").path)["drop"] > 0.5


@pytest.mark.parametrize("family", ["nezha", "bert"])
def test_a_tagger_is_exported_on_the_way_and_its_attention_stays_fp32(tmp_path, family):
    folder = make_model(tmp_path / "model", family=family, task="tag", max_length=32)
    predict = load_predictor(folder)
    assert predict.backend == "torch"
    lines = [
        {"text": text, "entities": [{k: e[k] for k in ("start", "end", "label")} for e in answer["entities"]]}
        for text, answer in zip(TEXTS, predict(TEXTS), strict=True)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    recipe = build_recipe(QuantizeRecipe, {"model": str(folder), "evaluate": {"data": {"dev": str(data)}}})
    result = RunDir.read_result(quantized(recipe, tmp_path / "run").path)
    assert result["metric"] == "f1"
    assert result["value_before"] == pytest.approx(1.0, abs=0.01)
    assert result["value"] > 0.7
    layers = 2
    assert result["operators"] == {"int8": 6 * layers + 1, "fp32": layers * {"nezha": 4, "bert": 2}[family]}
    assert not (folder / "onnx").exists()


def test_logits_of_a_quantized_model_are_near_whatever_the_length(exported):
    graph = quantize(exported / FILE, reduce_range=needs_reduced_range())
    assert operators(graph) == {"int8": 14, "fp32": 8}
    before, after = open_session(exported / FILE), open_session(graph.SerializeToString())
    rng = np.random.default_rng(1)
    spread, worst = [], 0.0
    for length in (1, 2, 30, 65, 80):
        ids = rng.integers(5, len(PIECES), (4, length))
        inputs = pad([(one, np.zeros(length)) for one in ids], 0)
        wanted, found = call(before, inputs), call(after, inputs)
        worst = max(worst, float(np.abs(wanted - found).max()))
        spread.append(wanted)
    assert worst < 0.25 * np.concatenate(spread).std()


def test_each_piece_of_the_word_table_has_a_scale_of_its_own():
    """One huge row (a piece that is hardly ever seen) must not take the others' precision."""
    table = np.random.default_rng(0).normal(scale=0.02, size=(50, 16)).astype(np.float32)
    table[7] *= 1000
    table[8] = 0
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["words"], name="look_up")],
        "table",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "L"])],
        [helper.make_tensor_value_info("words", TensorProto.FLOAT, ["B", "L", 16])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    int8._quantize_word_table(model)
    onnx.checker.check_model(model, full_check=True)
    found = open_session(model.SerializeToString()).run(None, {"input_ids": np.arange(50)[None]})[0][0]
    assert (np.abs(found - table) <= np.abs(table).max(1, keepdims=True) / 254 + 1e-9).all()
    assert {tensor.name for tensor in model.graph.initializer} == {"table_int8", "table_scale"}


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "reduced"),
    [
        ("x86_64", "processor : 0\nflags : fpu avx2 fma\n", True),
        ("x86_64", "flags\t\t: fpu avx2 avx512_vnni\n", False),
        ("x86_64", "flags : avx_vnni\n", False),
        ("AMD64", None, True),
        ("aarch64", "Features : fp asimd asimddp\n", False),
    ],
)
def test_weights_keep_to_7_bits_where_the_processor_could_overflow(
    tmp_path, monkeypatch, machine, cpuinfo, reduced
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert needs_reduced_range(tmp_path / "cpuinfo") is reduced


def test_reduced_weights_use_7_bits(exported):
    for reduce_range, largest in ((True, 64), (False, 127)):
        graph = quantize(exported / FILE, reduce_range=reduce_range)
        linear = [
            numpy_helper.to_array(tensor)
            for tensor in graph.graph.initializer
            if tensor.data_type == TensorProto.INT8
            and tensor.name.endswith("_quantized")
            and len(tensor.dims) == 2
        ]
        assert len(linear) == 14
        assert max(int(np.abs(weights.astype(int)).max()) for weights in linear) in (
            largest,
            largest - 1,
            largest + 1,
        )


def test_no_room_for_temporary_files_is_no_fault_of_the_model(exported, monkeypatch):
    def stumble(*_, **__):
        raise ValueError("Wire format was corrupt")

    monkeypatch.setattr(int8, "quantize_dynamic", stumble)
    with pytest.raises(ModelError, match="Wire format"):
        quantize(exported / FILE, reduce_range=True)
    monkeypatch.setattr(int8.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DiskError, match=r"cannot write .*: No space left on device"):
        quantize(exported / FILE, reduce_range=True)


def test_numbers_that_are_not_finite_are_an_error():
    with pytest.raises(ModelError, match="not finite"):
        agreement(np.zeros((2, 3)), np.array([[0, 1, np.nan], [0, 1, 2]]))
    assert agreement(np.eye(2), np.eye(2)[::-1]) == {"agreement": 0.0, "max_logit_difference": 1.0}


def test_a_plan_says_what_the_run_will_take(folder, rows):
    told = plan(
        build_recipe(QuantizeRecipe, {"model": str(folder), "evaluate": {"data": {"dev": str(rows)}}})
    )
    assert "parameters" in told
    assert "fp32 ONNX   is there" in told
    assert f"{len(TEXTS)} rows" in told


def test_a_recipe_that_cannot_be_evaluated_says_why(folder, tmp_path):
    with pytest.raises(RecipeError, match="neither `dev` nor `test`"):
        plan(build_recipe(QuantizeRecipe, {"model": str(folder), "evaluate": {"data": {}}}))
    headless = make_model(tmp_path / "headless", task=None)
    with pytest.raises(ModelError, match="names no task to evaluate"):
        plan(build_recipe(QuantizeRecipe, {"model": str(headless), "evaluate": {"data": {"dev": "x"}}}))
