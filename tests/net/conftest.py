"""The oracle: attention written as the formula, with every (L, L, N) tensor in the open."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fenghuo.net.config import EncoderConfig


def nezha_table(clip: int, width: int) -> Tensor:
    """The table, entry by entry, in float64."""
    table = torch.zeros(2 * clip + 1, width, dtype=torch.float64)
    for row in range(2 * clip + 1):
        for pair in range(width // 2):
            angle = row / 10_000 ** (2 * pair / width)
            table[row, 2 * pair], table[row, 2 * pair + 1] = math.sin(angle), math.cos(angle)
    return table


def formula(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    table: Tensor | None = None,
    places: Tensor | None = None,
    allowed: Tensor | None = None,
    weight_factor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(…, L, N) each, the queries not yet scaled → ((…, L, N), (…, L, L) scores).

    `weight_factor` multiplies the weights after the softmax: dropout, written out.
    """
    length, width = q.shape[-2:]
    places = torch.arange(length) if places is None else places
    score = q @ k.mT
    if table is not None:
        clip = table.shape[0] // 2
        far = table.to(q.dtype)[(places[None, :] - places[:, None]).clamp(-clip, clip) + clip]
        score = score + torch.einsum("...in,ijn->...ij", q, far)
    score = score / math.sqrt(width)
    weight = (score if allowed is None else score.masked_fill(~allowed, -math.inf)).softmax(-1)
    if weight_factor is not None:
        weight = weight * weight_factor
    out = weight @ v
    if table is not None:
        out = out + torch.einsum("...ij,ijn->...in", weight, far)
    return out, score


@pytest.fixture(scope="session")
def oracle() -> Callable[..., tuple[Tensor, Tensor]]:
    return formula


@pytest.fixture(scope="session")
def table_oracle() -> Callable[[int, int], Tensor]:
    return nezha_table


@pytest.fixture
def tiny() -> Callable[..., EncoderConfig]:
    """A config small enough for float64 and finite differences; any value can be changed."""

    def make(**values: Any) -> EncoderConfig:
        standard = {"vocab": 31, "layers": 2, "heads": 2, "width": 8, "relative_clip": 4, "max_length": 64}
        return EncoderConfig(**{**standard, **values})

    return make
