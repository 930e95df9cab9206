"""The optimizer that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fenghuo.training.lamb import Lamb
from fenghuo.training.lookahead import Lookahead
from fenghuo.training.recipe import OptimizerRecipe


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and tables decay; vectors (biases, norms) do not."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """The optimizer a recipe names, over the parameters of `model` that want a gradient."""
    groups = parameter_groups(model, recipe.weight_decay)
    inner: torch.optim.Optimizer
    if recipe.name == "lamb":
        groups[1]["adapt"] = recipe.adapt == "all"
        inner = Lamb(
            groups,
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.epsilon,
            bias_correction=recipe.bias_correction,
            trust_clip=recipe.trust_clip,
        )
    else:
        inner = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon, fused=True
        )
    if recipe.lookahead is None:
        return inner
    return Lookahead(inner, steps=recipe.lookahead.steps, rate=recipe.lookahead.rate)


def settle(optimizer: torch.optim.Optimizer) -> None:
    """Give the model the weights that a run ends with: those of an optimizer that keeps slow ones, or as they are."""
    if isinstance(optimizer, Lookahead):
        optimizer.settle()


@contextmanager
def settled(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """What `settle` would give, for as long as the context lasts."""
    if isinstance(optimizer, Lookahead):
        with optimizer.settled():
            yield
    else:
        yield
