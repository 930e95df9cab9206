"""Heads: what is asked of hidden vectors."""

# Shapes: M asked rows, S sequences, T flat pieces, D width, E embedding or entity width, V vocabulary, C outputs,
# K candidate entities.
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fenghuo.net.choice import choice
from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import Dropout
from fenghuo.net.embed import Embedding
from fenghuo.net.feed_forward import ACTIVATIONS


class MlmHead(nn.Module):
    """Which piece stands here? Its last layer is the word table itself (BERT's masked language model).

    Call it on the rows that are asked only: V logits a row are what a pretraining step pays most for.
    """

    def __init__(self, config: EncoderConfig, embed: Embedding) -> None:
        super().__init__()
        self.words = _TiedWords(config, embed)
        width = self.words.width
        self.dense = nn.Linear(config.width, width) if config.mlm_transform else None
        self.norm = nn.LayerNorm(width, eps=config.norm_eps) if config.mlm_transform else None
        self.bias = nn.Parameter(torch.zeros(config.vocab))
        self.activation = config.activation

    def forward(self, hidden_MD: Tensor) -> Tensor:
        """(M, D) → (M, V) logits; any leading shape."""
        return self.words(self._compared(hidden_MD), self.bias)

    def choice(self, hidden_MD: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        """(M, D), (M,) the right pieces → ((M,) negative log-likelihoods in nats, (M,) bool of right answers); much
        less memory than the logits' way (see choice.py)."""
        return self.words.choice(self._compared(hidden_MD), self.bias, target_M)

    def _compared(self, hidden_MD: Tensor) -> Tensor:
        if self.dense is None or self.norm is None:
            return hidden_MD
        compared: Tensor = self.norm(ACTIVATIONS[self.activation](self.dense(hidden_MD)))
        return compared


class SpanBoundaryHead(nn.Module):
    """Which piece stands at this place of a hidden span? Told from the two pieces beside the span alone (SBO of
    SpanBERT, arXiv 1907.10529, §3.2): two layers, each normalized, and the word table.

    NEZHA (arXiv 1909.00204, Table 2) lists a "span prediction" and defines no head for it; this is SpanBERT's. Places
    are counted from the span's first piece, so that nothing here says where in the text a span stands.

    Raises:
        ValueError: the encoder's words lie in several tables.
    """

    PLACES = 20
    """Of a span that can be asked: `max_pair_targets` of SpanBERT's code, which leaves out those after it too."""
    PLACE_WIDTH = 200
    """Of a place's vector, as in SpanBERT's code."""

    def __init__(self, config: EncoderConfig, embed: Embedding) -> None:
        super().__init__()
        if config.adaptive:
            raise ValueError("a span boundary head needs one table of words, which adaptive words are not")
        self.words = _TiedWords(config, embed)
        self.places = nn.Embedding(self.PLACES, self.PLACE_WIDTH)
        self.inner = nn.Linear(2 * config.width + self.PLACE_WIDTH, config.width)
        self.inner_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.outer = nn.Linear(config.width, self.words.width)
        self.outer_norm = nn.LayerNorm(self.words.width, eps=config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab))
        self.activation = config.activation

    def forward(self, left_MD: Tensor, right_MD: Tensor, place_M: Tensor) -> Tensor:
        """(M, D) the pieces before and after each asked piece's span, (M,) its place in it, from 0 on → (M, V)."""
        return self.words(self._compared(left_MD, right_MD, place_M), self.bias)

    def choice(
        self, left_MD: Tensor, right_MD: Tensor, place_M: Tensor, target_M: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward` takes them, and (M,) the right pieces → as `MlmHead.choice`."""
        return self.words.choice(self._compared(left_MD, right_MD, place_M), self.bias, target_M)

    def _compared(self, left_MD: Tensor, right_MD: Tensor, place_M: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        x = torch.cat([left_MD, right_MD, self.places(place_M).to(left_MD.dtype)], -1)
        x = self.inner_norm(act(self.inner(x)))
        compared: Tensor = self.outer_norm(act(self.outer(x)))
        return compared


class _TiedWords:
    """The word table as a last layer. No module, so that the embedding's tables are not registered a second time."""

    def __init__(self, config: EncoderConfig, embed: Embedding) -> None:
        self.embed, self.narrow = embed, config.widen == "words"
        self.width = config.width if self.narrow else config.embed_width

    def __call__(self, x: Tensor, bias_V: Tensor) -> Tensor:
        return F.linear(self._narrowed(x), self.embed.words.weight, bias_V)

    def choice(self, x_M: Tensor, bias_V: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        return choice(self._narrowed(x_M), self.embed.words.weight, bias_V, target_M)

    def _narrowed(self, x: Tensor) -> Tensor:
        if self.narrow and self.embed.project is not None:  # back through the map that widened the words
            return x @ self.embed.project.weight
        return x


class EntityHead(nn.Module):
    """Which entity does this piece name? Its last layer is the candidates' own vectors (dEA of THU's ERNIE, arXiv
    1905.07129).

    Raises:
        ValueError: the encoder has no entity stream, whose width the candidates have.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if not config.entity_width:
            raise ValueError("an entity head needs an encoder with an entity_width")
        self.dense = nn.Linear(config.width, config.entity_width)
        self.norm = nn.LayerNorm(config.entity_width, eps=config.norm_eps)
        self.activation = config.activation

    def forward(self, hidden_MD: Tensor, candidates_KE: Tensor) -> Tensor:
        """(M, D) pieces and (K, E) vectors of the entities to choose from → (M, K) logits; any leading shape."""
        x: Tensor = self.norm(ACTIVATIONS[self.activation](self.dense(hidden_MD)))
        return x @ candidates_KE.to(x.dtype).T


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
    """Classes, or one number, of a sequence: reads the pooler, or the first piece where there is none,
    (S, D) → (S, C)."""

    def __init__(self, config: EncoderConfig, outputs: int, dropout: float) -> None:
        super().__init__(config, outputs, dropout)
        self.relu = config.pooled_relu
        # albert_zh (run_classifier.py) normalizes what its pre-norm layers leave as it is.
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.norm_first else None

    def forward(self, hidden: Tensor) -> Tensor:
        """(S, D) → (S, C)."""
        hidden = hidden if self.norm is None else self.norm(hidden)
        return super().forward(hidden.relu() if self.relu else hidden)


class TagHead(OutputHead):
    """A tag a piece: (T, D) → (T, C)."""
