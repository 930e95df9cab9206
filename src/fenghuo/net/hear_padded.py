"""Attention between the projections over a padded batch, in plain operations that export."""

# Shapes: B rows, L columns, D width, H heads, N head width (D = H * N), R clip.
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fenghuo.net.config import EncoderConfig


class PaddedHear:
    """Attention over a padded batch, with dynamic batch and length.

    NEZHA's terms are made by distance and moved to where they are read by reshaping: a row of 2L numbers that is
    read as one of 2L - 1 begins one step to the right. Two copies each way, and no gather.

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
            # (2L, N): a row for each distance from 1 - L to L - 1, and one more that makes the reshaping even.
            distance = torch.arange(1 - length, length + 1, device=allowed.device)
            self.table = table[distance.clamp(-clip, clip) + clip]

    def __call__(self, layer: int, q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor) -> Tensor:
        split = (self.config.heads, self.config.head_width)
        q, k, v = (x.view(*x.shape[:2], *split).transpose(1, 2) for x in (q_BLD, k_BLD, v_BLD))
        q = q * self.config.head_width**-0.5
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
        """(B, H, L, 2L) by distance → (B, H, L, L) by key: each row one step left of the one above."""
        length, row = self.length, 2 * self.length - 1
        flat = x.flatten(2)[:, :, length - 1 : length - 1 + length * row]
        return flat.view(*x.shape[:2], length, row)[..., :length]

    def _by_distance(self, x: Tensor) -> Tensor:
        """(B, H, L, L) by key → (B, H, L, 2L) by distance, zeros where no key stands."""
        length = self.length
        flat = F.pad(F.pad(x, (length - 1, 0)).flatten(2), (0, length))
        return flat.view(*x.shape[:2], length, 2 * length)
