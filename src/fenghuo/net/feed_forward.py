"""What each piece makes of what it heard."""

# Shapes: T flat pieces (or B, L of a padded batch), D width, F inner width.
from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from fenghuo.net.config import Activation, EncoderConfig
from fenghuo.net.dropout import Dropout

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class FeedForward(nn.Module):
    """The second half of a layer: two linear maps, added to their input; the sum is normalized, or the input before
    them (`norm_first`)."""

    compiles = True
    """Worth a kernel of its own where there is a compiler: one call after another on the same numbers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.width, config.inner_width)
        self.outer = nn.Linear(config.inner_width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.inner_dropout = Dropout(config.dropout if config.dropout_inside else 0.0)
        self.activation = config.activation
        self.norm_first = config.norm_first

    def forward(self, x_TD: Tensor) -> Tensor:
        """(T, D) → (T, D)."""
        in_TD = self.norm(x_TD) if self.norm_first else x_TD
        inner_TF = self.inner_dropout(ACTIVATIONS[self.activation](self.inner(in_TD)))
        out_TD = self.dropout.added(x_TD, self.outer(inner_TF))
        return out_TD if self.norm_first else self.norm(out_TD)
