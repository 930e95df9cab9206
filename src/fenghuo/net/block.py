"""One layer of the encoder."""

# Shapes: T flat pieces (or B, L of a padded batch), D width.
from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from fenghuo.net.attention import Attention, Hear
from fenghuo.net.config import Activation, EncoderConfig
from fenghuo.net.dropout import Dropout

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class Block(nn.Module):
    """Attention, then a feed-forward part; each is added to its input and the sum normalized (BERT)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.inner = nn.Linear(config.width, config.inner_width)
        self.outer = nn.Linear(config.inner_width, config.width)
        self.outer_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.activation = config.activation

    def forward(self, x_TD: Tensor, layer: int, hear: Hear) -> Tensor:
        """(T, D) → (T, D)."""
        x_TD = self.attention_norm(self.dropout.added(x_TD, self.attention(x_TD, layer, hear)))
        inner_TF = ACTIVATIONS[self.activation](self.inner(x_TD))
        out_TD: Tensor = self.outer_norm(self.dropout.added(x_TD, self.outer(inner_TF)))
        return out_TD
