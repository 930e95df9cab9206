"""Who listens to whom."""

# Shapes: T flat pieces (or B, L of a padded batch), X remembered ones, D width.
from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import Dropout


class Hear(Protocol):
    """What happens between the projections: it knows the batch's layout, its mask and its distances."""

    def __call__(self, layer: int, q_TD: Tensor, k_TD: Tensor, v_TD: Tensor, /) -> Tensor: ...


class Attention(nn.Module):
    """The first half of a layer: multi-head attention (Vaswani et al. 2017, arXiv 1706.03762), added to its input;
    the sum is normalized, or the input before it (`norm_first`).

    It knows neither masks nor layouts nor distances: `hear` does (see hear_packed.py and hear_padded.py).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.width, config.width, bias=config.attention_bias)
        self.key = nn.Linear(config.width, config.width, bias=config.attention_bias)
        self.value = nn.Linear(config.width, config.width, bias=config.attention_bias)
        self.out = nn.Linear(config.width, config.width, bias=config.attention_bias)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.norm_first = config.norm_first

    def forward(self, x_TD: Tensor, layer: int, hear: Hear, before_XD: Tensor | None = None) -> Tensor:
        """(T, D) → (T, D); `before_XD` are inputs of earlier texts: keys and values, ahead of the rest."""
        in_TD = self.norm(x_TD) if self.norm_first else x_TD
        seen_TD = in_TD
        if before_XD is not None:
            seen_TD = torch.cat([self.norm(before_XD) if self.norm_first else before_XD, in_TD])
        heard_TD = self.out(hear(layer, self.query(in_TD), self.key(seen_TD), self.value(seen_TD)))
        out_TD = self.dropout.added(x_TD, heard_TD)
        return out_TD if self.norm_first else self.norm(out_TD)
