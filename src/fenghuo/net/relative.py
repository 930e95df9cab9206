"""Transformer-XL's positions: how far back each key stands, by formula and by weights."""

# Shapes: Q queries, K keys (the last Q are the queries' own pieces), D width, H heads, N head width (D = H * N).
from __future__ import annotations

import torch
from torch import Tensor, nn

from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import Dropout


def distance_sinusoids(longest: int, width: int, clip: int, device: torch.device) -> Tensor:
    """What keys at each distance look like before a layer's W_r.

    Args:
        longest: K, in pieces.
        width: D, even.
        clip: in pieces; keys further off than this look alike. 0: no clip.

    Returns:
        (K + 1, D) float32: row r is of distance K - 1 - r, and the last row, which `shift` reads for keys that no
        query may hear, of distance 0 once more. All sines stand before all cosines.

    Source: Transformer-XL (arXiv 1901.02860), §3.3 and appendix B, with its code's order of sines and cosines
    (kimiyoung/transformer-xl, `PositionalEmbedding`). Angles are rounded to float32 as there, because released weights
    learned with them: at a distance of 2,000 exact ones would change a sine by up to 1.4e-4.
    """
    distance = torch.arange(longest - 1, -2, -1, device=device).clamp(0, clip or None)
    frequency = 1 / 10_000.0 ** (torch.arange(0.0, width, 2.0, device=device) / width)
    angle = torch.outer(distance.to(torch.float32), frequency)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def shift(x_QK: Tensor) -> Tensor:
    """Numbers by distance → numbers by key.

    Args:
        x_QK: (…, Q, K + 1); column r of each query is of distance K - 1 - r, as in `distance_sinusoids`.

    Returns:
        (…, Q, K): entry [i, j] is of distance K - Q + i - j. Where that is below 0 the entry means nothing.

    A row of K + 1 numbers that is read as one of K begins one step further to the left in each row: one view, of
    O(Q * K) numbers, where looking distances up would gather Q * K * N of them.
    """
    queries, keys = x_QK.shape[-2], x_QK.shape[-1] - 1
    flat = x_QK.flatten(-2)[..., queries - 1 : queries - 1 + queries * keys]
    return flat.view(*x_QK.shape[:-2], queries, keys)


class StandingQuery(nn.Module):
    """What each head asks whatever the piece: a vector that is added to all queries."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.heads, config.head_width))


class StandingQueries(nn.Module):
    """u, which asks for contents, and v, which asks for distances (arXiv 1901.02860, §3.3)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.content = StandingQuery(config)
        self.distance = StandingQuery(config)


class Relative(nn.Module):
    """The weights of position "xl": W_r of each layer, and u and v of each layer or of all."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        groups = config.attention_groups
        self.maps = nn.ModuleList(nn.Linear(config.width, config.width, bias=False) for _ in range(groups))
        names = ["shared"] if config.relative_shared else [str(number) for number in range(groups)]
        self.queries = nn.ModuleDict({name: StandingQueries(config) for name in names})
        self.dropout = Dropout(config.dropout)

    def sinusoids(self, longest: int) -> Tensor:
        """(K + 1, D) for all layers of one pass, dropout included."""
        weight = self.maps[0].weight
        assert isinstance(weight, Tensor)
        rows = distance_sinusoids(longest, self.config.width, self.config.relative_clip, weight.device)
        dropped: Tensor = self.dropout(rows.to(weight.dtype))
        return dropped

    def of_layer(self, layer: int, rows_KD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """((H, K + 1, N) keys of distances, (H, 1, N) u, (H, 1, N) v) of a layer."""
        group = layer * len(self.maps) // self.config.layers
        keys_KHN = self.maps[group](rows_KD).view(-1, self.config.heads, self.config.head_width)
        queries = self.queries["shared" if self.config.relative_shared else str(group)]
        assert isinstance(queries, StandingQueries)
        return keys_KHN.transpose(0, 1), queries.content.weight[:, None], queries.distance.weight[:, None]
