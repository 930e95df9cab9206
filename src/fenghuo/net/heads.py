"""Heads: what is asked of hidden vectors."""

# Shapes: M asked rows, S sequences, T flat pieces, D width, E embedding width, V vocabulary, C outputs.
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fenghuo.net.block import ACTIVATIONS
from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import Dropout


class MlmHead(nn.Module):
    """Which piece stands here? Its last layer is the word table itself (BERT's masked language model).

    Call it on the rows that are asked only: V logits a row are what a pretraining step pays most for.
    """

    def __init__(self, config: EncoderConfig, words: nn.Embedding) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.embed_width)
        self.norm = nn.LayerNorm(config.embed_width, eps=config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab))
        self.activation = config.activation
        self._tied = (words,)  # in a tuple, so that the table is not registered a second time

    def forward(self, hidden_MD: Tensor) -> Tensor:
        """(M, D) → (M, V) logits; any leading shape."""
        hidden_ME = self.norm(ACTIVATIONS[self.activation](self.dense(hidden_MD)))
        return F.linear(hidden_ME, self._tied[0].weight, self.bias)


class Pooler(nn.Module):
    """A sequence's vector, from its first piece."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)

    def forward(self, first_SD: Tensor) -> Tensor:
        """(S, D) → (S, D)."""
        return torch.tanh(self.dense(first_SD))


class PairHead(nn.Module):
    """Do the two halves belong together? NSP's or SOP's two logits."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.out = nn.Linear(config.width, 2)

    def forward(self, pooled_SD: Tensor) -> Tensor:
        """(S, D) → (S, 2)."""
        logits_S2: Tensor = self.out(pooled_SD)
        return logits_S2


class OutputHead(nn.Module):
    """Dropout and one linear layer: classes of a pooled sequence, or tags of each piece."""

    def __init__(self, config: EncoderConfig, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(config.width, outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, D) → (…, C)."""
        logits: Tensor = self.out(self.dropout(hidden))
        return logits


class ClassifyHead(OutputHead):
    """Classes, or one number, of a sequence: reads the pooler, (S, D) → (S, C)."""


class TagHead(OutputHead):
    """A tag a piece: (T, D) → (T, C)."""
