"""Attention: milliseconds a call, ours beside torch's fused kernel and beside transformers 4.57.6.

    .venv/bin/python benchmarks/attention.py --quick --case 'training/nezha/12x64'

Cases: {training|inference}/{nezha|plain}/{12x64|12x26}/L{64|128|256|512}/{sdpa|transformers}, of 12 heads of width
64 (1,024 pieces a call) or 26 (2,048). Training is forward and backward with dropout 0.1 on the weights.

- sdpa: `scaled_dot_product_attention`, attention alone. It knows no distances, so against nezha it does less.
- transformers: one layer's self-attention with its three projections, on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch.nn import functional as F

from fenghuo.net.config import EncoderConfig
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.packing import Packing
from fenghuo.net.position import distance_table
from measure import THREADS, Peer, arguments, side_by_side, timed, wanted

HEADS = 12
DROPOUT = 0.1
PIECES = {64: 1024, 26: 2048}
CASES = [
    "/".join(parts)
    for parts in itertools.product(
        ("training", "inference"),
        ("nezha", "plain"),
        ("12x64", "12x26"),
        ("L64", "L128", "L256", "L512"),
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


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    peer = None
    for case in wanted(CASES, given.case):
        parts = read(case)
        versions = {"torch": torch.__version__}
        if case.endswith("sdpa"):
            theirs, name = timed(sdpa(parts)), "torch scaled_dot_product_attention"
        else:
            peer = peer or Peer("attention_peer.py")
            versions["transformers"] = peer.ask(do="prepare", **parts)
            theirs, name = peer.run, "transformers self-attention"
        mine = timed(ours(parts, projections=case.endswith("transformers")))
        side_by_side("attention", case, mine, theirs, peer_name=name, runs=given.runs, versions=versions)
    if peer is not None:
        peer.close()


if __name__ == "__main__":
    main()
