"""Where pieces stand: NEZHA's fixed table of distances."""

# Shapes: R clip, N head width, L length.
from __future__ import annotations

import torch
from torch import Tensor


def sinusoids(place: Tensor, width: int) -> Tensor:
    """Sines and cosines of places, interleaved.

    Args:
        place: (…) numbers, any type.
        width: N, even.

    Returns:
        (…, N) float64: channel 2k is sin(place / 10000^(2k/N)), channel 2k+1 its cosine.
    """
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64, device=place.device) / width)
    angle = place.to(torch.float64)[..., None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def distance_table(clip: int, width: int) -> Tensor:
    """NEZHA's table: what a query knows of how far off a key stands, and on which side.

    Row clip(j - i, -R, R) + R belongs to query i and key j; keys and values, all heads and all layers share
    it. Nothing in it is learned, so a model may read longer text than it was trained on.

    Returns:
        (2R + 1, N) float32: row r holds the sinusoids of r, made in float64 and then cast.

    Source: NEZHA (arXiv 1909.00204) as its released code has it (NEZHA-TensorFlow/modeling.py): the sinusoid
    is of the distance + R, where the paper's formula has the distance alone. Released weights need that.
    """
    return sinusoids(torch.arange(2 * clip + 1, device="cpu"), width).to(torch.float32)


def distance_index(place_q: Tensor, place_k: Tensor, clip: int) -> Tensor:
    """(…, Q), (…, K) → (…, Q, K): the table's row for each query and key."""
    return (place_k[..., None, :] - place_q[..., :, None]).clamp(-clip, clip) + clip
