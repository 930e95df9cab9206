"""The entity stream: beside the pieces, vectors of what they name (ERNIE of THU, arXiv 1905.07129).

What a layer does with the two streams is its type, and a released file's own config says which layer has which:

    sim   pieces only; the entities pass through untouched
    mix   pieces hear one another, entities do not; then both meet in the feed-forward part
    norm  pieces hear one another, and so do entities; then both meet in the feed-forward part

Where paper and code differ, the code decides (thunlp/ERNIE, `knowledge_bert/modeling.py`).
"""

# Shapes: S sequences, T flat pieces (or B, L of a padded batch), M pieces that name an entity, D width,
# E entity width, F inner width, P (query, key) pairs.
from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fenghuo.net.attention import Hear
from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import Dropout
from fenghuo.net.feed_forward import ACTIVATIONS
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.hear_padded import PaddedHear
from fenghuo.net.packing import Packing


def entity_config(config: EncoderConfig) -> EncoderConfig:
    """The values of the entities' self-attention: narrow, and without places."""
    return EncoderConfig(
        vocab=1,
        layers=config.layers,
        heads=config.entity_heads,
        width=config.entity_width,
        position="none",
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        norm_eps=config.norm_eps,
    )


class Fusion(nn.Module):
    """The second half of a layer that joins both streams: one inner vector a piece, h = act(W w + b + W' e + b'),
    from which either stream takes its own output, added to its input and normalized.

    A piece that names nothing has e = 0, and b' reaches it all the same; the paper's formula for such pieces leaves
    it out.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, inner, entity = config.width, config.inner_width, config.entity_width
        self.inner = nn.Linear(width, inner)
        self.entity_inner = nn.Linear(entity, inner)
        self.outer = nn.Linear(inner, width)
        self.entity_outer = nn.Linear(inner, entity)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.entity_norm = nn.LayerNorm(entity, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.activation = config.activation

    def forward(self, x_TD: Tensor, e_TE: Tensor) -> tuple[Tensor, Tensor]:
        """(T, D) and (T, E), zeros where a piece names nothing → the same shapes; the entities not masked again."""
        inner_TF = ACTIVATIONS[self.activation](self.inner(x_TD) + self.entity_inner(e_TE))
        out_TD: Tensor = self.norm(self.dropout.added(x_TD, self.outer(inner_TF)))
        out_TE: Tensor = self.entity_norm(self.dropout.added(e_TE, self.entity_outer(inner_TF)))
        return out_TD, out_TE


@dataclass
class EntityStream:
    """The entities of a batch on their way through the layers, in any layout."""

    now: Tensor
    """(…, E)"""
    mask: Tensor
    """(…, 1) bool: the piece names an entity."""
    hear: Hear
    states: list[Tensor] = field(default_factory=list)

    def heard(self, layer: int, attentions: nn.ModuleDict) -> Tensor:
        """(…, E) after the layer's own attention, if it has one; zeros where a piece names nothing."""
        e = self.now
        if (key := str(layer)) in attentions:
            e = attentions[key](e, layer, self.hear)
        return e * self.mask.to(e.dtype)


class EntityHear:
    """Attention among the pieces of a sequence that name an entity; the others hear zero.

    What those would hear is masked as soon as it is there, so it is not computed, and a sequence that names nothing
    needs no rule of its own. The released code adds -10000 to every score of such a sequence, which the softmax
    ignores: its pieces hear one another as if nothing were masked, and then all of that is multiplied with 0.
    """

    def __init__(
        self,
        config: EncoderConfig,
        packing: Packing,
        mask_T: Tensor,
        *,
        dropout: float,
        allowed_P: Tensor | None,
    ) -> None:
        self.at_M = mask_T.nonzero().squeeze(1)
        if allowed_P is not None:
            query_P, key_P = packing.pairs
            allowed_P = allowed_P[mask_T[query_P] & mask_T[key_P]]
        named_S = packing.lengths.new_zeros(len(packing)).index_add(0, packing.sequence_T, mask_T.long())
        self.hear = PackedHear(config, Packing.of(named_S), dropout=dropout, allowed_P=allowed_P)

    def __call__(self, layer: int, q_TE: Tensor, k_TE: Tensor, v_TE: Tensor) -> Tensor:
        q_ME, k_ME, v_ME = (x_TE.index_select(0, self.at_M) for x_TE in (q_TE, k_TE, v_TE))
        return torch.zeros_like(q_TE).index_copy(0, self.at_M, self.hear(layer, q_ME, k_ME, v_ME))


def check_entities(
    config: EncoderConfig, shape: tuple[int, ...], entities: Tensor | None, mask: Tensor | None
) -> None:
    """Check what is given of the entities of a batch of pieces of this shape.

    Raises:
        ValueError: half of it, shapes that do not fit, or a model without an entity stream.
    """
    if entities is None and mask is None:
        return
    if not config.entity_width:
        raise ValueError("entities are given, and this model has no entity stream")
    if entities is None or mask is None:
        raise ValueError("entities and entity_mask go together; one of them is missing")
    if entities.shape != (*shape, config.entity_width) or not entities.is_floating_point():
        found = f"{tuple(entities.shape)} of {entities.dtype}"
        raise ValueError(f"entities are {found}; they must be {(*shape, config.entity_width)} vectors")
    if mask.shape != shape:
        raise ValueError(f"entity_mask is {tuple(mask.shape)}; it must be {shape}")


def packed_entities(
    config: EncoderConfig,
    packing: Packing,
    entities_TE: Tensor | None,
    mask_T: Tensor | None,
    *,
    allowed_P: Tensor | None = None,
    dropout: float = 0.0,
) -> EntityStream | None:
    """The entity stream of a flat batch; None for a model without one.

    The released code sets the mask of a sequence's first piece, whose vector is zeros, to 1, so that there is always
    an entity to hear. It does so where it makes its data (`run_pretrain.py`, `run_typing.py` and the like), not in
    the model; so must the caller here. Where nothing is given that is what stands here: text without entities.

    Args:
        entities_TE: (T, E) vectors of what the pieces name; where the mask is 0 any finite numbers.
        mask_T: (T,), 0 where a piece names nothing. A mask that is 0 for a whole sequence is right too.
        allowed_P: (P,) bool, as for the pieces: an entity hears what its piece may hear.
        dropout: share of the attention weights that are dropped.

    Raises:
        ValueError: as `check_entities`.
    """
    check_entities(config, (packing.total,), entities_TE, mask_T)
    if not config.entity_width:
        return None
    if entities_TE is None or mask_T is None:
        entities_TE = torch.zeros(packing.total, config.entity_width, device=packing.device)
        mask_T = packing.positions_T == 0
    mask_T = mask_T != 0
    hear = EntityHear(entity_config(config), packing, mask_T, dropout=dropout, allowed_P=allowed_P)
    return EntityStream(now=entities_TE, mask=mask_T[:, None], hear=hear)


def padded_entities(
    config: EncoderConfig, allowed: Tensor, entities_BLE: Tensor | None, mask_BL: Tensor | None
) -> EntityStream | None:
    """The same for a padded batch, in operations that export; by default column 0 stands for the first piece.

    Args:
        allowed: (B, 1, 1, L) or (B, 1, L, L) bool, who may be heard.

    Raises:
        ValueError: as `check_entities`.
    """
    rows, length = allowed.shape[0], allowed.shape[-1]
    check_entities(config, (rows, length), entities_BLE, mask_BL)
    if not config.entity_width:
        return None
    if entities_BLE is None or mask_BL is None:
        entities_BLE = torch.zeros(rows, length, config.entity_width, device=allowed.device)
        mask_BL = (torch.arange(length, device=allowed.device) == 0).expand(rows, length)
    mask_BL = mask_BL != 0
    # Where nobody may be heard the smallest number is added to all scores: the weights stay finite, and are masked.
    hear = PaddedHear(entity_config(config), allowed & mask_BL[:, None, None], length, None)
    return EntityStream(now=entities_BLE, mask=mask_BL[..., None], hear=hear)
