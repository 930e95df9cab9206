"""Model folders small enough to be made in a test: an ONNX graph that looks logits up, and a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHARACTERS = list("好坏的服务很差我在北京上海大学见张三李四，。！？一二三四五六七八九十ab12")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS), "new", "york", "##s"]
CLASSES = ["negative", "neutral", "positive"]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def table_for(kind: str) -> np.ndarray:
    """(V, C): what a piece says for each class; for tags, each piece says its own tag."""
    if kind == "tag":
        tag_of = (
            dict.fromkeys("北上", 1)
            | dict.fromkeys("京海", 2)
            | dict.fromkeys("张李", 3)
            | dict.fromkeys("三四", 4)
        )
        table = np.zeros((len(PIECES), len(TAGS)), np.float32)
        table[np.arange(len(PIECES)), [tag_of.get(piece, 0) for piece in PIECES]] = 4
        return table
    columns = 1 if kind == "regress" else len(CLASSES)
    return np.random.default_rng(7).normal(size=(len(PIECES), columns)).astype(np.float32)


def onnx_of(kind: str) -> onnx.ModelProto:
    """tag: a look-up. Others: the sum over unmasked pieces, those of the second text counted twice."""
    table = table_for(kind)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in names]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("Add", ["token_type_ids", "one"], ["times"]),
        helper.make_node("Mul", ["times", "attention_mask"], ["weight"]),
        helper.make_node("Cast", ["weight"], ["weight_f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight_f", "last"], ["weight_BL1"]),
        helper.make_node("Mul", ["each", "weight_BL1"], ["weighed"]),
    ]
    if kind == "tag":
        nodes.append(helper.make_node("Identity", ["weighed"], ["logits"]))
    else:
        nodes.append(helper.make_node("ReduceSum", ["weighed", "middle"], ["logits"], keepdims=0))
    shape = ["B", "L", table.shape[1]] if kind == "tag" else ["B", table.shape[1]]
    constants = {"table": table, "one": np.array(1), "last": np.array([2]), "middle": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "table",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def make_folder(folder: Path, kind: str, *, max_length: int = 32) -> Path:
    """A model folder as `fenghuo export` leaves it, but for the torch weights."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    labels = {"tag": TAGS, "regress": []}.get(kind, CLASSES)
    task = {"kind": kind, "labels": labels, "metric": "accuracy", "max_length": max_length}
    (folder / "config.json").write_text(json.dumps({"model_type": "nezha", "fenghuo": {"task": task}}))
    onnx.save(onnx_of(kind), folder / "onnx" / "model.onnx")
    return folder


def class_scores(text: str, pair: str = "") -> np.ndarray:
    """What the made-up classifier must say: (C,) probabilities, computed without ONNX."""
    table = table_for("classify")

    def total(pieces: list[str]) -> np.ndarray:
        return table[[PIECES.index(p) if p in PIECES else 1 for p in pieces]].sum(0, dtype=np.float64)

    logits = total(["[CLS]", *text, "[SEP]"]) + (2 * total([*pair, "[SEP]"]) if pair else 0)
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
