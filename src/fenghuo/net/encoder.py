"""The encoder: embedding, then layers, over flat pieces."""

# Shapes: S sequences, T flat pieces (or B, L of a padded batch), M remembered pieces a sequence, D width,
# E entity width, H heads, P (query, key) pairs.
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fenghuo.net.attention import Attention, Hear
from fenghuo.net.config import EncoderConfig as EncoderConfig
from fenghuo.net.dropout import Dropout
from fenghuo.net.embed import Embedding
from fenghuo.net.entity import EntityStream, Fusion, entity_config, packed_entities
from fenghuo.net.feed_forward import FeedForward
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.hear_relative import RelativeHear, check_memory, remember
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
    entity_states: list[Tensor] = field(default_factory=list)
    """(T, E) each, beside `states`: the entity stream, where there is one."""


class Encoder(nn.Module):
    """A BERT-like encoder; which family it is, its config's values say."""

    distances: Tensor | None
    recompute = False
    """Whether training keeps each layer's input only and computes the rest again in the backward pass
    (Chen et al. 2016, arXiv 1604.06174); the same bits, dropout included."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.attentions = nn.ModuleList(Attention(config) for _ in range(config.attention_groups))
        kinds = config.layer_types or ["sim"] * config.feed_groups
        self.feeds = nn.ModuleList(
            FeedForward(config) if kinds[group] == "sim" else Fusion(config)
            for group in range(config.feed_groups)
        )
        self.entity_attentions = nn.ModuleDict(
            {str(n): Attention(entity_config(config)) for n, kind in enumerate(kinds) if kind == "norm"}
        )
        self.relative = Relative(config) if config.position == "xl" else None
        self.last_dropout = Dropout(config.dropout if config.dropout_inside else 0.0)
        # A buffer, so that it moves with the weights; not persistent, because it is a formula.
        nezha = config.position == "nezha"
        table = distance_table(config.relative_clip, config.head_width) if nezha else None
        self.register_buffer("distances", table, persistent=False)

    def layer_modules(self) -> list[list[nn.Module]]:
        """The modules of each layer that shares none with another one, for who treats layers apart."""
        layers = self.config.layers
        if not len(self.attentions) == len(self.feeds) == layers:
            return []
        return [[self.attentions[layer], self.feeds[layer]] for layer in range(layers)]

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
        causal: bool = False,
        memory: Sequence[Tensor] = (),
        entities_TE: Tensor | None = None,
        entity_mask_T: Tensor | None = None,
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
            causal: nobody hears what follows; the same as `left_to_right`, without a number for each pair.
            memory: `Encoded.memory` of what came before in the same sequences; empty: nothing came before.
            entities_TE, entity_mask_T: (T, E) vectors of the entities that pieces name, (T,) 1 where one does; see
                `packed_entities` for what stands there by default.
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
        if causal and (allowed is not None or self.config.entity_width):
            raise ValueError(
                "causal fits neither `allowed`, which says who hears whom, nor a stream of entities"
            )
        check_memory(self.config, memory, packing)
        if self.relative is not None and (positions_T is not None or scores):
            raise ValueError(
                "position 'xl' counts pieces and keeps no scores: neither places nor scores fit it"
            )
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
                causal=causal,
                keep_scores=scores,
            )
            kept_scores = hear.scores
        ids = {"words": pieces_T, "segments": segments_T, "tasks": tasks_T, "languages": languages_T}
        first = self.config.first_position
        if positions_T is None:
            positions_T = _counted(pieces_T, packing, first) if first else packing.positions_T
        ids["positions"] = positions_T
        kept: list[Tensor] = []
        entities = packed_entities(
            self.config, packing, entities_TE, entity_mask_T, allowed_P=allowed, dropout=dropout
        )
        last_TD = self.run(ids, hear, kept if states or self.config.memory else None, entities, memory)
        new = remember(kept[:-1], memory, packing, self.config.memory) if self.config.memory else []
        return Encoded(
            last_TD=last_TD,
            packing=packing,
            states=kept if states else [],
            scores=kept_scores,
            entity_states=[] if entities is None else entities.states,
            memory=new,
        )

    def run(
        self,
        ids: dict[str, Tensor | None],
        hear: Hear,
        keep: list[Tensor] | None = None,
        entities: EntityStream | None = None,
        memory: Sequence[Tensor] = (),
    ) -> Tensor:
        """The stack in any layout, to (…, D); `keep`, and the entities' own list, receive each state on the way."""
        x: Tensor = self.embed(ids)
        if entities is not None:
            entities.now = entities.now.to(x.dtype)
        layers = self.config.layers
        for layer in range(layers):
            if keep is not None:
                keep.append(x)
                if entities is not None:
                    entities.states.append(entities.now)
            before = memory[layer].detach().flatten(0, 1).to(x.dtype) if memory else None
            attention = self.attentions[layer * len(self.attentions) // layers]
            feed = self.feeds[layer * len(self.feeds) // layers]
            again = self.recompute and self.training and torch.is_grad_enabled()
            if entities is None or self.config.layer_types[layer] == "sim":
                half = (x, layer, hear, before)
                x = (
                    checkpoint(_layer, attention, feed, *half, use_reentrant=False)
                    if again
                    else _layer(attention, feed, *half)
                )
            else:  # the entities' stream has moved on when the backward pass comes
                x = attention(x, layer, hear, before)
                x, entities.now = feed(x, entities.heard(layer, self.entity_attentions))
        x = self.last_dropout(x)
        if keep is not None:
            keep.append(x)
            if entities is not None:
                entities.states.append(entities.now)
        return x


def _layer(
    attention: nn.Module, feed: nn.Module, x: Tensor, layer: int, hear: Hear, before: Tensor | None
) -> Tensor:
    heard: Tensor = attention(x, layer, hear, before)
    made: Tensor = feed(heard)
    return made


def _counted(pieces_T: Tensor, packing: Packing, first: int) -> Tensor:
    """(T,) places from `first` on; a piece of the padding's number, `first` - 1, stands there itself.

    A vocabulary in which that number is a piece of a text must not mean other places here than in `PaddedBatch.of`.
    """
    real_T = (pieces_T != first - 1).long()
    before_T = torch.nn.functional.pad(real_T.cumsum(0), (1, 0))  # counts of all sequences together
    own_T = before_T[1:] - before_T[packing.starts[packing.sequence_T]]
    return own_T * real_T + first - 1
