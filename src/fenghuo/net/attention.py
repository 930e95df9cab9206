"""Who listens to whom."""

# Shapes: T flat pieces (or B, L of a padded batch), D width.
from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from fenghuo.net.config import EncoderConfig


class Hear(Protocol):
    """What happens between the projections: it knows the batch's layout, its mask and its distances."""

    def __call__(self, layer: int, q_TD: Tensor, k_TD: Tensor, v_TD: Tensor, /) -> Tensor: ...


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762): the part of it that has weights.

    It knows neither masks nor layouts nor distances: `hear` does (see hear_packed.py and hear_padded.py).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x_TD: Tensor, layer: int, hear: Hear) -> Tensor:
        """(T, D) → (T, D)."""
        out_TD: Tensor = self.out(hear(layer, self.query(x_TD), self.key(x_TD), self.value(x_TD)))
        return out_TD
