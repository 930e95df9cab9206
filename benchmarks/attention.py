"""Attention: milliseconds a call and peak memory, beside torch's fused kernel and beside transformers 4.57.6.

    .venv/bin/python benchmarks/attention.py --quick --case 'training/nezha/12x64'

Cases: {training|inference}/{nezha|plain}/{12x64|12x26}/L{32|64|128|256|512|1024}/{sdpa|transformers}, of 12 heads of
width 64 (1,024 pieces a call) or 26 (2,048). Training is forward and backward with dropout 0.1 on the weights.

- sdpa: `scaled_dot_product_attention`, attention alone. It knows no distances, so against nezha it does less.
- transformers: one layer's self-attention with its three projections, on both sides.

`ours_peak_mib` and `peer_peak_mib`: what one call holds at its highest point beyond inputs and weights (see
measure/memory.py). Pieces are as many at every length, so what stays the same from row to row is linear in L; in
training a byte a score is kept, which weight fell out.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable

import torch
from torch.nn import functional as F

from fenghuo.net.config import EncoderConfig
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.packing import Packing
from fenghuo.net.position import distance_table
from measure import THREADS, Peer, arguments, side_by_side, timed, wanted
from measure.memory import peak_mib

HEADS = 12
DROPOUT = 0.1
PIECES = {64: 1024, 26: 2048}
CASES = [
    "/".join(parts)
    for parts in itertools.product(
        ("training", "inference"),
        ("nezha", "plain"),
        ("12x64", "12x26"),
        ("L32", "L64", "L128", "L256", "L512", "L1024"),
        ("sdpa", "transformers"),
    )
]


def read(case: str) -> dict[str, str | int]:
    """A case's parts, as the peer takes them."""
    mode, kind, shape, length, _ = case.split("/")
    width, pieces = int(shape[3:]), int(length[1:])
    rows = PIECES[width] // pieces
    return {"mode": mode, "kind": kind, "heads": HEADS, "width": width, "rows": rows, "length": pieces}


def training(forward: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> Callable[[], object]:
    grad = torch.randn_like(forward())
    return lambda: torch.autograd.grad(forward(), leaves, grad)


def inference(forward: Callable[[], torch.Tensor]) -> Callable[[], object]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return forward()

    return run


def ours(parts: dict, projections: bool) -> Callable[[], object]:
    """fenghuo's attention over a packing of equal lengths, as the encoder calls it."""
    width, trains = HEADS * parts["width"], parts["mode"] == "training"
    packing = Packing.of([parts["length"]] * parts["rows"])
    config = EncoderConfig(vocab=1, layers=1, heads=HEADS, width=width, position="nezha")
    table = distance_table(config.relative_clip, parts["width"]) if parts["kind"] == "nezha" else None
    linears = [torch.nn.Linear(width, width) for _ in range(3)] if projections else []
    inputs = [torch.randn(packing.total, width, requires_grad=True) for _ in range(1 if projections else 3)]

    def forward() -> torch.Tensor:
        qkv = [linear(inputs[0]) for linear in linears] if projections else inputs
        hear = PackedHear(config, packing, table=table, dropout=DROPOUT if trains else 0.0)
        return hear(0, *qkv)

    leaves = [*inputs, *(p for linear in linears for p in linear.parameters())]
    return training(forward, leaves) if trains else inference(forward)


def sdpa(parts: dict) -> Callable[[], object]:
    """torch's fused attention on the same pieces; with dropout it falls back to its plain way on the CPU."""
    trains = parts["mode"] == "training"
    shape = (parts["rows"], parts["length"], HEADS, parts["width"])
    qkv = [torch.randn(shape, requires_grad=True) for _ in range(3)]

    def forward() -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in qkv)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if trains else 0.0)

    return training(forward, qkv) if trains else inference(forward)


def peak(case: str, side: str) -> float | None:
    """Of one call; asked in a process apart, where nothing is timed."""
    torch.set_num_threads(THREADS)
    parts = read(case)
    return peak_mib(sdpa(parts) if side == "sdpa" else ours(parts, case.endswith("transformers")))


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    peers: list[Peer] = []  # one that is timed and one that is weighed
    with multiprocessing.get_context("spawn").Pool(1) as weighed:
        for case in wanted(CASES, given.case):
            parts = read(case)
            versions = {"torch": torch.__version__}
            more = {"ours_peak_mib": weighed.apply(peak, (case, "ours"))}
            if case.endswith("sdpa"):
                theirs, name = timed(sdpa(parts)), "torch scaled_dot_product_attention"
                more["peer_peak_mib"] = weighed.apply(peak, (case, "sdpa"))
            else:
                peers = peers or [Peer("attention_peer.py") for _ in range(2)]
                for peer in peers:
                    versions["transformers"] = peer.ask(do="prepare", **parts)
                theirs, name = peers[0].run, "transformers self-attention"
                more["peer_peak_mib"] = peers[1].ask(do="memory")
            both = timed(ours(parts, projections=case.endswith("transformers"))), theirs
            side_by_side(
                "attention",
                case,
                *both,
                peer_name=name,
                runs=given.runs,
                versions=versions,
                more=lambda *_, more=more: more,
            )
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
