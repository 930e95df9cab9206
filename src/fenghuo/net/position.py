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


class Rotation:
    """NEZHA's terms as two ordinary dot products, exact where no distance exceeds the clip.

    sin(a + b) and cos(a + b) are products of sines and cosines of a and of b. So what query i makes of the
    distance j - i + R splits into a turn of the query by R - i and fixed vectors S_j of the key's place alone:
    q_i · T[j - i + R] = turn_i(q_i) · S_j, and sum_j w_j T[j - i + R] = turn_i⁻¹(sum_j w_j S_j). Put beside
    queries, keys and values, they make one attention of head width 2N, which any fused kernel computes.

    Args:
        length: L, at most R + 1.
        clip: R.
        width: N.
    """

    def __init__(self, length: int, clip: int, width: int, device: torch.device) -> None:
        place = torch.arange(length, device=device)
        sines = sinusoids(clip - place, width)
        self.turn = torch.complex(sines[:, 1::2], sines[:, 0::2]).to(torch.complex64)
        self.places = sinusoids(place, width).to(torch.float32)

    def apply(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, H, L, N) each → (n, H, L, 2N) each."""
        turned = _pairs(q) * self.turn.to(_complex(q))
        places = self.places.to(k.dtype).expand_as(k)
        q = torch.cat([q, torch.view_as_real(turned).flatten(-2)], dim=-1)
        return q, torch.cat([k, places], dim=-1), torch.cat([v, places], dim=-1)

    def undo(self, heard: Tensor) -> Tensor:
        """(n, H, L, 2N) heard of the wider values → (n, H, L, N)."""
        plain, turned = heard.chunk(2, dim=-1)
        back = _pairs(turned) * self.turn.conj().to(_complex(heard))
        return plain + torch.view_as_real(back).flatten(-2)


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


def _complex(x: Tensor) -> torch.dtype:
    return torch.complex128 if x.dtype == torch.float64 else torch.complex64
