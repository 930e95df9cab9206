"""The optimizer that a recipe names."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from fenghuo.training.lookahead import Lookahead
from fenghuo.training.optim import build_optimizer, parameter_groups
from fenghuo.training.recipe import LookaheadRecipe, OptimizerRecipe


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    decayed, free = parameter_groups(model, 0.1)
    assert [tuple(weight.shape) for weight in decayed["params"]] == [(3, 4)]
    assert len(free["params"]) == 3
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("lookahead", [None, LookaheadRecipe()])
@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_every_optimizer_brings_a_loss_down(name: str, lookahead: LookaheadRecipe | None) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    recipe = OptimizerRecipe(name=name, learning_rate=0.04, weight_decay=0.0, lookahead=lookahead)
    optimizer = build_optimizer(model, recipe)
    assert isinstance(optimizer, Lookahead) == (lookahead is not None)
    x, y = torch.randn(64, 6), torch.randn(64, 1)
    losses = []
    for _ in range(50):
        loss = (model(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


def test_values_of_lamb_are_refused_beside_adamw() -> None:
    for values in ({"trust_clip": None}, {"bias_correction": False}, {"adapt": "all"}):
        with pytest.raises(ValidationError, match="has no part in adamw: it is a value of lamb"):
            OptimizerRecipe(**values)
