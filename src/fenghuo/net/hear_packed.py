"""Attention between the projections over flat pieces: which way of computing it fits which batch."""

# Shapes: T flat pieces, D width, H heads, N head width (D = H * N); of one block: n sequences, L its length;
# P (query, key) pairs; R clip.
from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from fenghuo.net.chunked import chunked_attention
from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import keep_mask
from fenghuo.net.packing import Packing
from fenghuo.net.position import distance_index


class PackedHear:
    """Attention over a packing.

    Args:
        config: the encoder's shape.
        packing: the batch.
        table: (2R + 1, N) NEZHA's distances; None: attention knows no distance.
        dropout: share of the attention weights that are dropped; 0 in evaluation.
        places_T: where the pieces stand, for distances; None: one after another.
        allowed_P: who may hear whom (see mask.py); None: everybody in the sequence.
        causal: nobody hears what follows; without `allowed_P`.
        keep_scores: layers whose scores are wanted; they land in `scores`.
    """

    def __init__(
        self,
        config: EncoderConfig,
        packing: Packing,
        *,
        table: Tensor | None = None,
        dropout: float = 0.0,
        places_T: Tensor | None = None,
        allowed_P: Tensor | None = None,
        causal: bool = False,
        keep_scores: Collection[int] = (),
    ) -> None:
        self.config, self.packing, self.table, self.dropout = config, packing, table, dropout
        self.keep_scores = frozenset(keep_scores)
        self.scores: dict[int, Tensor] = {}
        self.allowed = [None if b.filled is None else b.filled[:, None, None, :] for b in packing.blocks]
        if allowed_P is not None:
            self.allowed = [square[:, None] for square in packing.squares(allowed_P)]
            if any(not bool(square.any(-1).all()) for square in self.allowed if square is not None):
                raise ValueError("allowed: a piece may hear nothing, not even itself")
        self.causal = causal
        if causal:
            # Slots without a piece stand behind all pieces of their sequence: hearing to the left hides them too.
            self.allowed = [_lower(block.length, packing.device) for block in packing.blocks]
        self.on_cpu = packing.device.type == "cpu"
        self.places: list[Tensor] | None = None
        self._rows: Tensor | None = None
        if table is not None and places_T is not None and not _one_after_another(places_T, packing):
            self.places = packing.lay_out(places_T)
        # Fused kernels on the CPU drop nothing, and none gives its scores.
        self.fused = not (self.on_cpu and dropout > 0)
        self.scale = config.head_width**-0.5

    def __call__(self, layer: int, q_TD: Tensor, k_TD: Tensor, v_TD: Tensor) -> Tensor:
        if not self.packing.blocks:
            return v_TD  # no piece at all: (0, D)
        split = (self.config.heads, self.config.head_width)
        parts = [self.packing.lay_out(x_TD) for x_TD in (q_TD, k_TD, v_TD)]
        heard, scores = [], []
        for number, part in enumerate(zip(*parts, strict=True)):
            q, k, v = (x.view(*x.shape[:2], *split).transpose(1, 2) for x in part)
            out, score = self._attend(number, q, k, v, want_scores=layer in self.keep_scores)
            heard.append(out.transpose(1, 2).flatten(2).to(q_TD.dtype))
            if score is not None:
                scores.append(score)
        if scores:
            self.scores[layer] = self.packing.flat_pairs(scores)
        return self.packing.restore(heard)

    def _attend(
        self, number: int, q: Tensor, k: Tensor, v: Tensor, *, want_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(n, H, L, N) of one block → the same, and (n, H, L, L) scores where they are wanted."""
        allowed = self.allowed[number]
        if self.fused and self.table is None and not want_scores:
            mask = None if self.causal else allowed
            given = {"dropout_p": self.dropout, "scale": self.scale, "is_causal": self.causal}
            return F.scaled_dot_product_attention(q, k, v, mask, **given), None
        # Half precision is too coarse for sums; what autocast asks of the products themselves, it says there.
        q, k, v = (_wide(x) for x in (q, k, v))
        if self.on_cpu and self.places is None:
            return self._attend_in_chunks(q, k, v, allowed, want_scores=want_scores)
        heard, score = self._attend_plainly(number, q, k, v, allowed)
        return heard, score if want_scores else None

    def _attend_in_chunks(
        self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, *, want_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        bias, keep, keep_scale = None, None, 1.0
        if allowed is not None:
            bias = torch.zeros(allowed.shape, dtype=q.dtype).masked_fill_(~allowed, -math.inf)
        if self.dropout > 0:
            keep, keep_scale = keep_mask((*q.shape[:3], q.shape[2]), self.dropout, q.device)
        return chunked_attention(
            q,
            k,
            v,
            scale=self.scale,
            table=None if self.table is None else self.table.to(q.dtype),
            bias=bias,
            keep=keep,
            keep_scale=keep_scale,
            want_scores=want_scores,
        )

    def _attend_plainly(
        self, number: int, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Any places, any device."""
        q = q * self.scale
        distances = None if self.table is None else self._distances(number, self.table.to(q.dtype))
        score = _wide(q @ k.mT)
        if distances is not None:
            score = score + distances.scores(q)
        weight = score if allowed is None else score.masked_fill(~allowed, -math.inf)
        weight = F.dropout(weight.softmax(-1), self.dropout)
        heard = _wide(weight @ v)
        if distances is not None:
            heard = heard + distances.values(weight)
        return heard, score

    def _distances(self, number: int, table: Tensor) -> _ByRow | _ByPair:
        clip = self.config.relative_clip
        if self.places is not None:
            places = self.places[number]
            return _ByPair(table, distance_index(places, places, clip)[:, None])
        if self._rows is None:
            place = torch.arange(self.packing.blocks[0].length, device=self.packing.device)
            self._rows = table[distance_index(place, place, clip)]
        length = self.packing.blocks[number].length
        return _ByRow(self._rows[:length, :length])


class _ByRow:
    """Distances of pieces that stand one after another: the same of every sequence and head, so that a row of queries
    of all of them is one product.

    Args:
        table_LLN: the table's entry of each query and key.
    """

    def __init__(self, table_LLN: Tensor) -> None:
        self.table_LLN = table_LLN

    def scores(self, q: Tensor) -> Tensor:
        """(n, H, L, N) → (n, H, L, L)."""
        by_row = _wide(self._rows(q) @ self.table_LLN.mT)
        return by_row.transpose(0, 1).reshape(*q.shape[:3], -1)

    def values(self, weight: Tensor) -> Tensor:
        """(n, H, L, L) → (n, H, L, N)."""
        by_row = _wide(self._rows(weight) @ self.table_LLN)
        return by_row.transpose(0, 1).reshape(*weight.shape[:3], -1)

    def _rows(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).transpose(0, 1)


class _ByPair:
    """Distances of pieces that stand anywhere: each pair's is looked up in its query's products with the table."""

    def __init__(self, table: Tensor, index: Tensor) -> None:
        self.table, self.index = table, index

    def scores(self, q: Tensor) -> Tensor:
        """(n, H, L, N) → (n, H, L, L)."""
        by_row = _wide(q @ self.table.T)
        return by_row.gather(-1, self.index.expand(*q.shape[:3], -1))

    def values(self, weight: Tensor) -> Tensor:
        """(n, H, L, L) → (n, H, L, N)."""
        by_row = weight.new_zeros(*weight.shape[:-1], self.table.shape[0])
        return _wide(by_row.scatter_add(-1, self.index.expand(weight.shape), weight) @ self.table)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _lower(length: int, device: torch.device) -> Tensor:
    """(1, 1, L, L) bool, one for all sequences."""
    return torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()


def _one_after_another(places_T: Tensor, packing: Packing) -> bool:
    """Each sequence's places go up by one, wherever they begin."""
    offset_T = places_T - packing.positions_T
    first_S = torch.cat([offset_T, offset_T.new_zeros(1)])[packing.starts]
    return bool((offset_T == first_S[packing.sequence_T]).all())
