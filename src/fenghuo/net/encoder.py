"""The encoder: embedding, then layers, over flat pieces."""

# Shapes: S sequences, T flat pieces (or B, L of a padded batch), M remembered pieces a sequence, D width, H heads,
# P (query, key) pairs.
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from fenghuo.net.attention import Attention, Hear
from fenghuo.net.config import EncoderConfig as EncoderConfig
from fenghuo.net.dropout import Dropout
from fenghuo.net.embed import Embedding
from fenghuo.net.feed_forward import FeedForward
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.hear_relative import RelativeHear, remember
from fenghuo.net.packing import Packing
from fenghuo.net.position import distance_table
from fenghuo.net.relative import Relative


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
    memory: list[Tensor] = field(default_factory=list)
    """(S, M, D) a layer, without gradient: what the next texts of the same sequences hear of these (position "xl" with
    `memory` above 0). M is the config's, or less where some sequence has had fewer pieces."""


class Encoder(nn.Module):
    """A BERT-like encoder; which family it is, its config's values say."""

    distances: Tensor | None

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.attentions = nn.ModuleList(Attention(config) for _ in range(config.attention_groups))
        self.feeds = nn.ModuleList(FeedForward(config) for _ in range(config.feed_groups))
        self.relative = Relative(config) if config.position == "xl" else None
        self.last_dropout = Dropout(config.dropout if config.dropout_inside else 0.0)
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
        memory: Sequence[Tensor] = (),
        states: bool = False,
        scores: Collection[int] = (),
    ) -> Encoded:
        """Encode a flat batch.

        Args:
            pieces_T: (T,) piece ids, sequence after sequence.
            packing: the sequences' lengths.
            segments_T, tasks_T, languages_T: (T,) ids; zeros where not given.
            positions_T: (T,) places; by default first_position, first_position + 1, … in each sequence.
            allowed: (P,) bool, who may hear whom (see mask.py); by default everybody in a sequence.
            memory: `Encoded.memory` of what came before in the same sequences; empty: nothing came before.
            states: keep the output of the embedding and of each layer.
            scores: layers whose attention scores to keep; this costs memory of H * P numbers each.

        Raises:
            ValueError: shapes that do not fit, ids out of range, a sequence too long for learned positions; memory,
                places or scores of an encoder that has none.
        """
        if pieces_T.shape != (packing.total,):
            raise ValueError(f"pieces are {tuple(pieces_T.shape)}, their lengths add up to {packing.total}")
        if out_of_range := [n for n in scores if not 0 <= n < self.config.layers]:
            raise ValueError(f"scores of layer {out_of_range[0]} asked of {self.config.layers} layers")
        self._check_memory(memory, packing, counted=positions_T is None and not scores)
        dropout = self.config.attention_dropout if self.training else 0.0
        kept_scores: dict[int, Tensor] = {}
        hear: Hear
        if self.relative is not None:
            held = memory[0].shape[1] if memory else 0
            hear = RelativeHear(
                self.config, self.relative, packing, memory=held, dropout=dropout, allowed_P=allowed
            )
        else:
            hear = PackedHear(
                self.config,
                packing,
                table=self.distances,
                dropout=dropout,
                places_T=positions_T,
                allowed_P=allowed,
                keep_scores=scores,
            )
            kept_scores = hear.scores
        ids = {"words": pieces_T, "segments": segments_T, "tasks": tasks_T, "languages": languages_T}
        if positions_T is None:
            positions_T = packing.positions_T + self.config.first_position
        ids["positions"] = positions_T
        kept: list[Tensor] = []
        last_TD = self.run(ids, hear, kept if states or self.config.memory else None, memory)
        new = remember(kept[:-1], memory, packing, self.config.memory) if self.config.memory else []
        kept = kept if states else []
        return Encoded(last_TD=last_TD, packing=packing, states=kept, scores=kept_scores, memory=new)

    def _check_memory(self, memory: Sequence[Tensor], packing: Packing, *, counted: bool) -> None:
        if self.relative is None:
            if memory:
                raise ValueError(f"memory needs position 'xl', not '{self.config.position}'")
            return
        if not counted:
            raise ValueError(
                "position 'xl' counts pieces and keeps no scores: neither places nor scores fit it"
            )
        shapes = {tuple(x.shape) for x in memory}
        held = memory[0].shape[1] if memory and memory[0].dim() == 3 else 0
        wanted = (len(packing), held, self.config.width)
        if memory and (len(memory) != self.config.layers or shapes != {wanted}):
            found = f"{len(memory)} of {', '.join(map(str, sorted(shapes)))}"
            raise ValueError(f"memory is {found}; it must be {self.config.layers} of {wanted}, one a layer")

    def run(
        self,
        ids: dict[str, Tensor | None],
        hear: Hear,
        keep: list[Tensor] | None = None,
        memory: Sequence[Tensor] = (),
    ) -> Tensor:
        """The stack in any layout, to (…, D); `keep` receives each state on the way."""
        x: Tensor = self.embed(ids)
        layers = self.config.layers
        for layer in range(layers):
            if keep is not None:
                keep.append(x)
            before = memory[layer].detach().flatten(0, 1).to(x.dtype) if memory else None
            x = self.attentions[layer * len(self.attentions) // layers](x, layer, hear, before)
            x = self.feeds[layer * len(self.feeds) // layers](x)
        x = self.last_dropout(x)
        if keep is not None:
            keep.append(x)
        return x
