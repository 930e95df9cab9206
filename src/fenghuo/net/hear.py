"""Attention between the projections, in two layouts: flat pieces, and a padded batch for export."""

# Shapes: T flat pieces, D width, H heads, N head width (D = H * N); of one block: n sequences, L its length;
# P (query, key) pairs; R clip; B rows of a padded batch.
from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fenghuo.net.config import EncoderConfig
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
        self.index: list[Tensor | None] = [None] * len(packing.blocks)
        if table is not None:
            places = packing.positions_T if places_T is None else places_T
            laid = packing.lay_out(places)
            self.index = [distance_index(p, p, config.relative_clip)[:, None] for p in laid]

    def __call__(self, layer: int, q_TD: Tensor, k_TD: Tensor, v_TD: Tensor) -> Tensor:
        split = (self.config.heads, self.config.head_width)
        parts = [self.packing.lay_out(x_TD) for x_TD in (q_TD, k_TD, v_TD)]
        heard, scores = [], []
        for number, (q, k, v) in enumerate(zip(*parts, strict=True)):
            q, k, v = (x.unflatten(-1, split).transpose(1, 2) for x in (q, k, v))
            out, score = self._attend(number, q, k, v)
            heard.append(out.transpose(1, 2).flatten(2))
            scores.append(score)
        if layer in self.keep_scores:
            self.scores[layer] = self.packing.flat_pairs(scores)
        return self.packing.restore(heard)

    def _attend(self, number: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        index, allowed = self.index[number], self.allowed[number]
        score = q @ k.mT
        if index is not None and self.table is not None:
            table = self.table.to(q.dtype)
            index = index.expand(score.shape)
            score = score + (q @ table.T).gather(-1, index)
        score = score / math.sqrt(q.shape[-1])
        weight = score if allowed is None else score.masked_fill(~allowed, -math.inf)
        weight = F.dropout(weight.softmax(-1), self.dropout)
        out = weight @ v
        if index is not None:
            far = weight.new_zeros(*weight.shape[:-1], table.shape[0]).scatter_add(-1, index, weight)
            out = out + far @ table
        return out, score


class PaddedHear:
    """Attention over a padded batch in plain operations that export with dynamic batch and length.

    Args:
        config: the encoder's shape.
        allowed: (B, 1, 1, L) or (B, 1, L, L) bool.
        length: L; symbolic under export.
        table: (2R + 1, N) NEZHA's distances; None: attention knows no distance.
    """

    def __init__(self, config: EncoderConfig, allowed: Tensor, length: int, table: Tensor | None) -> None:
        self.config, self.length, self.table = config, length, table
        self.bias = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)
        if table is not None:
            clip = config.relative_clip
            far = torch.arange(1 - length, length, device=allowed.device)
            self.table = table[far.clamp(-clip, clip) + clip]  # (2L - 1, N), by distance

    def __call__(self, layer: int, q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor) -> Tensor:
        split = (self.config.heads, self.config.head_width)
        q, k, v = (x.view(*x.shape[:2], *split).transpose(1, 2) for x in (q_BLD, k_BLD, v_BLD))
        q = q / math.sqrt(self.config.head_width)
        score = q @ k.mT
        if self.table is not None:
            score = score + self._by_key(q @ self.table.T)
        weight = (score + self.bias).softmax(-1)
        out = weight @ v
        if self.table is not None:
            out = out + self._by_distance(weight) @ self.table
        heard: Tensor = out.transpose(1, 2).flatten(2)
        return heard

    def _by_key(self, x: Tensor) -> Tensor:
        """(B, H, L, 2L - 1) by distance → (B, H, L, L) by key: each row one step left of the one above."""
        length = self.length
        flat = F.pad(x, (0, 1)).flatten(2)
        flat = flat[:, :, length - 1 : length - 1 + length * (2 * length - 1)]
        return flat.view(*x.shape[:2], length, 2 * length - 1)[..., :length]

    def _by_distance(self, x: Tensor) -> Tensor:
        """(B, H, L, L) by key → (B, H, L, 2L - 1) by distance, zeros where no key stands."""
        length = self.length
        flat = F.pad(F.pad(x, (0, length - 1)).flatten(2), (length - 1, 1))
        return flat.view(*x.shape[:2], length, 2 * length)[..., : 2 * length - 1]
