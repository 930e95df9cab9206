"""The ways to compute NEZHA's attention, each beside the chunks of net/chunked.py: milliseconds a call, no dropout.

    .venv/bin/python benchmarks/attention_ways.py --quick

Cases: {training|inference}/{12x64|12x26}/L{32|64|128|256|512}/{rotation|reshaped|looked-up|formula}, the shapes and
pieces of benchmarks/attention.py. `ours` is the chunks, `peer` the other way. docs/decisions/0003-nezha-attention.md
draws the conclusions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from attention import HEADS, PIECES, inference, training
from fenghuo.net.chunked import chunked_attention
from fenghuo.net.config import EncoderConfig
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.hear_padded import PaddedHear
from fenghuo.net.packing import Packing
from fenghuo.net.position import distance_index, distance_table, sinusoids
from measure import THREADS, arguments, side_by_side, timed, wanted

CLIP = 64
CASES = [
    "/".join(parts)
    for parts in itertools.product(
        ("training", "inference"),
        ("12x64", "12x26"),
        ("L32", "L64", "L128", "L256", "L512"),
        ("rotation", "reshaped", "looked-up", "formula"),
    )
    if parts[3] != "rotation" or int(parts[2][1:]) <= CLIP + 1
]


def by_heads(x_TD: Tensor, length: int) -> Tensor:
    return x_TD.view(-1, length, HEADS, x_TD.shape[1] // HEADS).transpose(1, 2)


def chunks(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """(n, H, L, N) each, the queries scaled."""
    return chunked_attention(q, k, v, scale=1.0, table=table)[0]


def pairs(x: Tensor) -> Tensor:
    """(…, N) → (…, N / 2) complex."""
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


def rotation(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """One fused attention of twice the head width; exact up to a length of R + 1.

    sin(a + b) and cos(a + b) are products of sines and cosines of a and of b. So what query i makes of the distance
    j - i + R splits into a turn of the query by R - i and fixed vectors S_j of the key's place alone:
    q_i · T[j - i + R] = turn_i(q_i) · S_j, and sum_j w_j T[j - i + R] = turn_i⁻¹(sum_j w_j S_j).
    """
    place = torch.arange(q.shape[2])
    sines = sinusoids(CLIP - place, q.shape[3])
    turn = torch.complex(sines[:, 1::2], sines[:, 0::2]).to(torch.complex64)
    places = sinusoids(place, q.shape[3]).to(torch.float32).expand_as(k)
    wide_q = torch.cat([q, torch.view_as_real(pairs(q) * turn).flatten(-2)], dim=-1)
    wide = F.scaled_dot_product_attention(
        wide_q, torch.cat([k, places], dim=-1), torch.cat([v, places], dim=-1), scale=1.0
    )
    plain, turned = wide.chunk(2, dim=-1)
    return plain + torch.view_as_real(pairs(turned) * turn.conj()).flatten(-2)


def formula(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """As NEZHA's released code has it: an (L, L, N) tensor of distances."""
    place = torch.arange(q.shape[2])
    far = table[distance_index(place, place, CLIP)]
    score = q @ k.mT + torch.einsum("bhin,ijn->bhij", q, far)
    weight = score.softmax(-1)
    return weight @ v + torch.einsum("bhij,ijn->bhin", weight, far)


def way(name: str, width: int, length: int, mode: str) -> Callable[[], object]:
    """One call of that way, forward or forward and backward."""
    table = distance_table(CLIP, width)
    rows = PIECES[width] // length
    leaves = [torch.randn(rows * length, HEADS * width, requires_grad=True) for _ in range(3)]
    config = EncoderConfig(vocab=1, layers=1, heads=HEADS, width=HEADS * width, position="nezha")

    def forward() -> Tensor:
        if name == "reshaped":
            mask = torch.ones(rows, 1, 1, length, dtype=torch.bool)
            return PaddedHear(config, mask, length, table)(0, *(x.view(rows, length, -1) for x in leaves))
        q, k, v = (by_heads(x, length) for x in leaves)
        if name == "looked-up":
            hear = PackedHear(config, Packing.of([length] * rows), table=table)
            return hear._attend_plainly(0, q, k, v, None)[0]
        q = q / math.sqrt(width)
        return {"chunks": chunks, "rotation": rotation, "formula": formula}[name](q, k, v, table)

    return training(forward, leaves) if mode == "training" else inference(forward)


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    for case in wanted(CASES, given.case):
        mode, shape, length, name = case.split("/")
        mine, theirs = (timed(way(x, int(shape[3:]), int(length[1:]), mode)) for x in ("chunks", name))
        versions = {"torch": torch.__version__}
        side_by_side("attention_ways", case, mine, theirs, peer_name=name, runs=given.runs, versions=versions)


if __name__ == "__main__":
    main()
