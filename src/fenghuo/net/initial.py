"""A model before it has learned: weights drawn from a seed, or none yet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.model import Model


def initial_weights(model: nn.Module, *, std: float, seed: int) -> dict[str, Tensor]:
    """BERT's start for each of a model's weights: normal, cut at two deviations; biases 0; norms 1 and 0.

    Source: `truncated_normal_initializer` in google-research/bert and NEZHA-TensorFlow.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    weights = {}
    for name, parameter in model.named_parameters():
        weight = torch.zeros(parameter.shape)
        if name in norms:
            weight.fill_(1.0)
        elif not name.endswith("bias"):
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
        weights[name] = weight
    return weights


def empty_model(config: EncoderConfig, heads: HeadsConfig, *, family: str = "") -> Model:
    """A model whose weights are still to come (`load_state_dict(…, assign=True)`).

    It spends neither time nor memory on weights that are about to be replaced, and a weight that is forgotten
    is an error, not a random layer.
    """
    with torch.device("meta"):
        return Model(config, heads, family=family)


def build_model(config: EncoderConfig, heads: HeadsConfig, *, seed: int, family: str = "") -> Model:
    """A fresh model; the same seed gives the same bits."""
    model = empty_model(config, heads, family=family)
    model.load_state_dict(initial_weights(model, std=config.initializer_range, seed=seed), assign=True)
    return model
