"""An encoder and its heads: packed for training and distillation, padded for everybody else."""

# Shapes: S sequences, T flat pieces, D width, B rows, L columns of a padded batch, V pieces, C outputs,
# E entity width.
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fenghuo.net.adaptive import AdaptiveSoftmax
from fenghuo.net.config import HeadsConfig as HeadsConfig
from fenghuo.net.encoder import Encoded, Encoder, EncoderConfig
from fenghuo.net.entity import check_entities, padded_entities
from fenghuo.net.heads import (
    ClassifyHead,
    EntityHead,
    MlmHead,
    PairHead,
    Pooler,
    SpanBoundaryHead,
    TagHead,
)
from fenghuo.net.hear_padded import PaddedHear
from fenghuo.net.packing import Packing, pack, unpack
from fenghuo.net.padded import PaddedBatch


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a padded call returns."""

    last_hidden_state: Tensor
    """(B, L, D); unspecified where the mask is 0."""
    pooler_output: Tensor | None = None
    """(B, D), of each row's first piece that is not masked."""
    logits: Tensor | None = None
    """The model's own head: (B, C) classes, (B, L, C) tags, or (B, L, V) of an MLM head; of adaptive words these are
    log-probabilities."""
    pair_logits: Tensor | None = None
    """(B, 2) of a NSP or SOP head."""
    mems: list[Tensor] | None = None
    """(B, M, D) a layer: `mems` of the call that goes on with the same rows; None where the model remembers nothing.
    transformers has the same list with M and B exchanged."""


class Model(nn.Module):
    """An encoder with the heads that `heads` names.

    `family` is the card in `models/` that names its tensors in files, `extra` what a folder's config.json
    says beyond shapes (labels, task): neither changes a number.
    """

    def __init__(self, config: EncoderConfig, heads: HeadsConfig, *, family: str = "") -> None:
        super().__init__()
        self.config, self.heads_config, self.family = config, heads, family
        self.extra: dict[str, Any] = {}
        self.encoder = Encoder(config)
        self.mlm: MlmHead | AdaptiveSoftmax | None = None
        if heads.mlm and config.adaptive:
            self.mlm = AdaptiveSoftmax(config, self.encoder.embed.adaptive_words)
        elif heads.mlm:
            self.mlm = MlmHead(config, self.encoder.embed)
        embed = self.encoder.embed
        self.span_boundary = SpanBoundaryHead(config, embed) if heads.span_boundary else None
        self.pooler = Pooler(config) if heads.pooler else None
        self.pair = PairHead(config) if heads.pair else None
        self.entity = EntityHead(config) if heads.entity else None
        dropout = config.dropout if heads.dropout is None else heads.dropout
        kinds = {"classify": ClassifyHead, "tag": TagHead}
        if config.position == "xl" and heads.task == "classify":
            raise ValueError("a classifier reads the first piece, which hears nothing where position is 'xl'")
        if config.position == "xl" and heads.pair:
            raise ValueError("a pair head reads the first piece, which hears nothing where position is 'xl'")
        self.head = kinds[heads.task](config, heads.outputs, dropout) if heads.task else None

    def encode(
        self,
        batch: Mapping[str, Tensor],
        *,
        causal: bool = False,
        memory: Sequence[Tensor] = (),
        states: bool = False,
        scores: Collection[int] = (),
    ) -> Encoded:
        """Encode a flat batch: `pieces` (T,), `lengths` (S,) and, where they matter, `segments`, `positions`,
        `tasks`, `languages` (T,), `allowed` (P,), `entities` (T, E) and `entity_mask` (T,). See `Encoder.forward`."""
        encoded: Encoded = self.encoder(
            batch["pieces"],
            Packing.of(batch["lengths"], batch["pieces"].device),
            segments_T=batch.get("segments"),
            positions_T=batch.get("positions"),
            tasks_T=batch.get("tasks"),
            languages_T=batch.get("languages"),
            allowed=batch.get("allowed"),
            causal=causal,
            memory=memory,
            entities_TE=batch.get("entities"),
            entity_mask_T=batch.get("entity_mask"),
            states=states,
            scores=scores,
        )
        return encoded

    def pooled(self, encoded: Encoded) -> Tensor:
        """(S, D) of the pooler.

        Raises:
            ValueError: there is none.
        """
        if self.pooler is None:
            raise ValueError("this model has no pooler")
        first_SD: Tensor = self.pooler(_first(encoded))
        return first_SD

    def task_logits(self, batch: Mapping[str, Tensor], encoded: Encoded | None = None) -> Tensor:
        """(S, C) classes or (T, C) tags; encodes the batch unless that is done already.

        Raises:
            ValueError: there is no task head.
        """
        encoded = self.encode(batch) if encoded is None else encoded
        if self.head is None:
            raise ValueError("this model has no task head")
        if self.heads_config.task == "classify":
            hidden = _first(encoded) if self.pooler is None else self.pooler(_first(encoded))
        else:
            hidden = encoded.last_TD
        logits: Tensor = self.head(hidden)
        return logits

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        task_type_ids: Tensor | None = None,
        langs: Tensor | None = None,
        mems: Sequence[Tensor] | None = None,
        entities: Tensor | None = None,
        entity_mask: Tensor | None = None,
    ) -> Output:
        """A padded batch, called as transformers calls its models; inside, only real pieces are computed.

        Args:
            input_ids: (B, L) piece ids.
            attention_mask: (B, L), 0 hides a piece, wherever it stands; or (B, L, L), [b, i, j] says whether
                piece i may hear piece j. By default nothing is hidden.
            token_type_ids, task_type_ids, langs: (B, L) ids; zeros where not given.
            position_ids: (B, L) or (1, L) places; by default the column, in RoBERTa as `PaddedBatch.of` says. Learned
                positions look them up, NEZHA's distances are their differences; position "xl" takes none.
            mems: `Output.mems` of the call before; None: nothing came before, and nothing stands for it.
            entities: (B, L, E) vectors of what pieces name, for a model with an entity stream.
            entity_mask: (B, L), 0 where a piece names nothing; see `packed_entities`.

        Raises:
            ValueError: shapes that do not fit, ids out of range, a row too long for learned positions.
        """
        ids = {
            "segments": token_type_ids,
            "positions": position_ids,
            "tasks": task_type_ids,
            "languages": langs,
        }
        batch = PaddedBatch.of(input_ids, attention_mask, ids, first_position=self.config.first_position)
        if torch.compiler.is_exporting():
            return self._forward_padded(batch, entities, entity_mask)
        rows, columns = input_ids.shape
        check_entities(self.config, (rows, columns), entities, entity_mask)
        packed, xl = batch.pack(), self.encoder.relative
        encoded: Encoded = self.encoder(
            packed.words_T,
            packed.packing,
            segments_T=packed.ids["segments"],
            # What a mask drops is not there for position "xl", which counts what is.
            positions_T=packed.ids["positions"] if xl is None or position_ids is not None else None,
            tasks_T=packed.ids["tasks"],
            languages_T=packed.ids["languages"],
            allowed=packed.allowed_P,
            memory=mems or (),
            entities_TE=None if entities is None else pack(entities, packed.kept_T),
            entity_mask_T=None if entity_mask is None else pack(entity_mask, packed.kept_T),
        )
        pooled = None if self.pooler is None else self.pooler(_first(encoded))
        logits_T = self._piece_logits(encoded.last_TD)
        return Output(
            last_hidden_state=unpack(encoded.last_TD, packed.kept_T, rows, columns),
            pooler_output=pooled,
            logits=self._sequence_logits(_first(encoded) if pooled is None else pooled)
            if logits_T is None
            else unpack(logits_T, packed.kept_T, rows, columns),
            pair_logits=None if self.pair is None else self.pair(pooled),
            mems=encoded.memory or None,
        )

    def forward_padded(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        task_type_ids: Tensor | None = None,
        langs: Tensor | None = None,
        entities: Tensor | None = None,
        entity_mask: Tensor | None = None,
    ) -> Output:
        """The same numbers as `forward` without packing, in operations that torch.onnx and torch.export know.

        Masked pieces are computed too. Distances are between columns, and the pooler reads column 0: pad on
        the right. It knows no dropout on the attention's weights: export in evaluation mode.
        """
        ids = {
            "segments": token_type_ids,
            "positions": position_ids,
            "tasks": task_type_ids,
            "languages": langs,
        }
        first = self.config.first_position
        batch = PaddedBatch.of(input_ids, attention_mask, ids, first_position=first)
        return self._forward_padded(batch, entities, entity_mask)

    def _forward_padded(
        self, batch: PaddedBatch, entities: Tensor | None, entity_mask: Tensor | None
    ) -> Output:
        if self.config.position == "xl":
            raise ValueError("a model with position 'xl' has no padded layout, and is not exported")
        length = batch.words_BL.shape[1]
        hear = PaddedHear(self.config, batch.allowed, length, self.encoder.distances)
        ids = {"words": batch.words_BL, **batch.ids}
        if ids["positions"] is None:
            ids["positions"] = torch.arange(length, device=batch.allowed.device)[None]
        stream = padded_entities(self.config, batch.allowed, entities, entity_mask)
        last_BLD = self.encoder.run(ids, hear, entities=stream)
        pooled = None if self.pooler is None else self.pooler(last_BLD[:, 0])
        logits = self._piece_logits(last_BLD)
        return Output(
            last_hidden_state=last_BLD,
            pooler_output=pooled,
            logits=self._sequence_logits(last_BLD[:, 0] if pooled is None else pooled)
            if logits is None
            else logits,
            pair_logits=None if self.pair is None else self.pair(pooled),
        )

    def _piece_logits(self, hidden: Tensor) -> Tensor | None:
        if self.head is not None:
            return self.head(hidden) if self.heads_config.task == "tag" else None
        return None if self.mlm is None else self.mlm(hidden)

    def _sequence_logits(self, pooled_SD: Tensor | None) -> Tensor | None:
        return None if self.head is None else self.head(pooled_SD)


def _first(encoded: Encoded) -> Tensor:
    """(S, D), each sequence's first piece; zeros for a sequence without pieces."""
    packing = encoded.packing
    if 0 not in packing.sizes:
        return encoded.last_TD.index_select(0, packing.starts)
    padded = torch.cat([encoded.last_TD, encoded.last_TD.new_zeros(1, encoded.last_TD.shape[1])])
    return padded.index_select(0, packing.starts.masked_fill(packing.lengths == 0, packing.total))
