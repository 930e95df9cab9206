"""Layers computed again in the backward pass: the same bits, and less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fenghuo.models.build import build
from fenghuo.net.config import HeadsConfig
from fenghuo.net.initial import build_model
from fenghuo.net.model import Model

SMALL = {"layers": 3, "layer_groups": 3, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
BATCH = {"pieces": torch.arange(5, 5 + 41) % 90, "lengths": torch.tensor([13, 20, 8])}


def model_of(preset: str, values: dict[str, Any]) -> Model:
    values = {**values, "dropout": 0.2, "attention_dropout": 0.1}
    return build(preset, values=values, vocab=97, heads=HeadsConfig(mlm=True), seed=0)


def gradients(
    model: Model, batch: dict[str, Any], *, recompute: bool, scores: tuple[int, ...] = ()
) -> tuple[Any, list[Any]]:
    model.encoder.recompute = recompute
    model.train().zero_grad()
    torch.manual_seed(7)
    encoded = model.encode(batch, scores=scores)
    loss = encoded.last_TD.square().sum()
    for layer in scores:
        loss = loss + encoded.scores[layer].square().mean()
    loss.backward()
    return loss, [None if weight.grad is None else weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("scores", [(), (0, 2)])
@pytest.mark.parametrize("preset", ["nezha-4l-312", "bert-base"])
def test_the_bits_are_the_same_dropout_included(preset: str, scores: tuple[int, ...]) -> None:
    model = model_of(preset, SMALL)
    loss, wanted = gradients(model, BATCH, recompute=False, scores=scores)
    again, found = gradients(model, BATCH, recompute=True, scores=scores)
    assert torch.equal(loss, again)
    for one, other in zip(wanted, found, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@pytest.mark.parametrize(
    "values",
    [
        {"layers": 4, "layer_groups": 1},
        {"layers": 4, "layer_groups": 2, "norm_first": True, "dropout_inside": True},
        {"layers": 3, "position": "xl", "relative_clip": 0, "segments": 0, "memory": 40},
        {"layers": 3, "entity_width": 8, "entity_heads": 2, "layer_types": ("sim", "mix", "norm")},
    ],
)
def test_every_kind_of_layer_is_made_again_as_it_was(tiny: Any, values: dict[str, Any]) -> None:
    model = build_model(tiny(**values, dropout=0.2, attention_dropout=0.1), HeadsConfig(), seed=0)
    batch = {"pieces": torch.randint(31, (20,)), "lengths": torch.tensor([9, 4, 7])}
    if "entity_width" in values:
        batch |= {"entities": torch.randn(20, 8), "entity_mask": torch.rand(20) < 0.4}
    loss, wanted = gradients(model, batch, recompute=False)
    again, found = gradients(model, batch, recompute=True)
    assert torch.equal(loss, again)
    for one, other in zip(wanted, found, strict=True):
        assert one is other is None or torch.equal(one, other)


def test_it_keeps_the_inputs_of_layers_and_little_else() -> None:
    """Bytes that the graph holds between the passes, weights apart; a layer's input is one of a dozen such arrays."""
    model = model_of("nezha-4l-312", {**SMALL, "layers": 12, "layer_groups": 12}).train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def kept(*, recompute: bool) -> int:
        model.encoder.recompute = recompute
        held: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            encoded = model.encode(BATCH, states=True)
        for state in encoded.states:  # checkpoints hold their inputs outside the hooks
            note(state)
        return sum(size for place, size in held.items() if place not in weights)

    assert kept(recompute=True) < 0.25 * kept(recompute=False)


def test_evaluation_is_not_touched() -> None:
    model = model_of("nezha-4l-312", SMALL).eval()
    wanted = model.encode(BATCH).last_TD
    model.encoder.recompute = True
    with torch.inference_mode():
        assert torch.equal(model.encode(BATCH).last_TD, wanted)
