"""The padded layout exports with dynamic batch and length, and onnxruntime gives the same numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.initial import build_model
from fenghuo.net.model import Model

NAMES = ["input_ids", "attention_mask", "token_type_ids"]


class Logits(nn.Module):
    """What compress/export.py wraps: three inputs, one output."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        logits = self.model(input_ids, attention_mask, token_type_ids).logits
        assert logits is not None
        return logits


def examples() -> tuple[Tensor, ...]:
    """Three tensors, not one thrice: the exporter would take one object for one input."""
    return tuple(torch.ones(2, 8, dtype=torch.int64) for _ in NAMES)


def export(model: Model, path: str) -> None:
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=4096)}
    with warnings.catch_warnings():  # the exporter's own deprecations
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Logits(model).eval(),
            examples(),
            dynamo=True,
            dynamic_shapes=(dims,) * 3,
            input_names=NAMES,
            output_names=["logits"],
            verbose=False,
        )
    program.save(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("position", "task"), [("nezha", "classify"), ("learned", "classify"), ("nezha", "tag")]
)
def test_onnxruntime_agrees_at_any_batch_and_length(tmp_path, position, task):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    config = EncoderConfig(
        vocab=31, layers=2, heads=2, width=8, position=position, relative_clip=4, max_length=4096
    )
    model = build_model(config, HeadsConfig(task=task, outputs=3), seed=0).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    export(model, str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for rows, columns in ((1, 1), (1, 2), (3, 5), (2, 6), (4, 33), (1, 300)):
        ids, segments = torch.randint(31, (rows, columns)), torch.randint(2, (rows, columns))
        mask = torch.ones_like(ids)
        mask[0, max(1, columns // 2) :] = 0
        feed = dict(zip(NAMES, (x.numpy() for x in (ids, mask, segments)), strict=True))
        with torch.no_grad():
            wanted = model(ids, mask, segments).logits.numpy()
        (found,) = session.run(None, feed)
        held = mask.numpy() > 0 if task == "tag" else slice(None)
        np.testing.assert_allclose(found[held], wanted[held], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("position", ["nezha", "learned"])
def test_torch_export_takes_the_padded_layout(position):
    config = EncoderConfig(vocab=31, layers=1, heads=2, width=8, position=position, relative_clip=4)
    model = build_model(config, HeadsConfig(task="classify", outputs=3), seed=0).eval()
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=512)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Logits(model), examples(), dynamic_shapes=(dims,) * 3)
    other = torch.randint(31, (3, 21))
    found = program.module()(other, torch.ones_like(other), torch.zeros_like(other))
    torch.testing.assert_close(found, model(other).logits, rtol=0, atol=1e-5)
