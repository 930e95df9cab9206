"""The encoder: embedding, then layers, over flat pieces."""

# Shapes: S sequences, T flat pieces (or B, L of a padded batch), D width, H heads, P (query, key) pairs.
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fenghuo.net.attention import Attention, Hear
from fenghuo.net.config import EncoderConfig as EncoderConfig
from fenghuo.net.embed import Embedding
from fenghuo.net.feed_forward import FeedForward
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.packing import Packing
from fenghuo.net.position import distance_table


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What an encoder makes of a batch."""

    last_TD: Tensor
    packing: Packing
    states: list[Tensor] = field(default_factory=list)
    """(T, D) each: the embedding's output, then each layer's. Empty unless asked for."""
    scores: dict[int, Tensor] = field(default_factory=dict)
    """Layer → (H, P): scaled scores before the softmax, NEZHA's relative term included, of the pairs of real
    pieces, sequence by sequence and row by row. Layers that were asked for only."""


class Encoder(nn.Module):
    """A BERT-like encoder; which family it is, its config's values say."""

    distances: Tensor | None

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.attentions = nn.ModuleList(Attention(config) for _ in range(config.attention_groups))
        self.feeds = nn.ModuleList(FeedForward(config) for _ in range(config.feed_groups))
        # A buffer, so that it moves with the weights; not persistent, because it is a formula.
        nezha = config.position == "nezha"
        table = distance_table(config.relative_clip, config.head_width) if nezha else None
        self.register_buffer("distances", table, persistent=False)

    def forward(
        self,
        pieces_T: Tensor,
        packing: Packing,
        *,
        segments_T: Tensor | None = None,
        positions_T: Tensor | None = None,
        tasks_T: Tensor | None = None,
        languages_T: Tensor | None = None,
        allowed: Tensor | None = None,
        states: bool = False,
        scores: Collection[int] = (),
    ) -> Encoded:
        """Encode a flat batch.

        Args:
            pieces_T: (T,) piece ids, sequence after sequence.
            packing: the sequences' lengths.
            segments_T, tasks_T, languages_T: (T,) ids; zeros where not given.
            positions_T: (T,) places; by default first_position, first_position + 1, … in each sequence. Where
                first_position is not 0, a piece of the padding's number is not counted, as in the padded call.
            allowed: (P,) bool, who may hear whom (see mask.py); by default everybody in a sequence.
            states: keep the output of the embedding and of each layer.
            scores: layers whose attention scores to keep; this costs memory of H * P numbers each.

        Raises:
            ValueError: shapes that do not fit, ids out of range, a sequence too long for learned positions.
        """
        if pieces_T.shape != (packing.total,):
            raise ValueError(f"pieces are {tuple(pieces_T.shape)}, their lengths add up to {packing.total}")
        if out_of_range := [n for n in scores if not 0 <= n < self.config.layers]:
            raise ValueError(f"scores of layer {out_of_range[0]} asked of {self.config.layers} layers")
        hear = PackedHear(
            self.config,
            packing,
            table=self.distances,
            dropout=self.config.attention_dropout if self.training else 0.0,
            places_T=positions_T,
            allowed_P=allowed,
            keep_scores=scores,
        )
        ids = {"words": pieces_T, "segments": segments_T, "tasks": tasks_T, "languages": languages_T}
        first = self.config.first_position
        if positions_T is None:
            positions_T = _counted(pieces_T, packing, first) if first else packing.positions_T
        ids["positions"] = positions_T
        kept: list[Tensor] = []
        last_TD = self.run(ids, hear, kept if states else None)
        return Encoded(last_TD=last_TD, packing=packing, states=kept, scores=hear.scores)

    def run(self, ids: dict[str, Tensor | None], hear: Hear, keep: list[Tensor] | None = None) -> Tensor:
        """The stack in any layout, to (…, D); `keep` receives each state on the way."""
        x: Tensor = self.embed(ids)
        layers = self.config.layers
        for layer in range(layers):
            if keep is not None:
                keep.append(x)
            x = self.attentions[layer * len(self.attentions) // layers](x, layer, hear)
            x = self.feeds[layer * len(self.feeds) // layers](x)
        if keep is not None:
            keep.append(x)
        return x


def _counted(pieces_T: Tensor, packing: Packing, first: int) -> Tensor:
    """(T,) places from `first` on; a piece of the padding's number, `first` - 1, stands there itself.

    A vocabulary in which that number is a piece of a text must not mean other places here than in `PaddedBatch.of`.
    """
    real_T = (pieces_T != first - 1).long()
    before_T = torch.nn.functional.pad(real_T.cumsum(0), (1, 0))  # counts of all sequences together
    own_T = before_T[1:] - before_T[packing.starts[packing.sequence_T]]
    return own_T * real_T + first - 1
