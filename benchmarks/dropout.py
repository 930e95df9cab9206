"""Dropout, forward and backward: milliseconds a call, ours beside torch's.

    .venv/bin/python benchmarks/dropout.py --quick

Cases: {hidden|weights}/{alone|added}: the hidden vectors of 1,024 pieces at base width, or the attention weights of
8 sequences of 128 pieces; alone, or added to a residual as each layer does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fenghuo.net.dropout import Dropout
from measure import THREADS, arguments, side_by_side, timed, wanted

SHAPES = {"hidden": (1024, 768), "weights": (96, 128, 128)}
CASES = [f"{shape}/{use}" for shape in SHAPES for use in ("alone", "added")]


def work(drop: Dropout | nn.Dropout, shape: tuple[int, ...], use: str) -> Callable[[], object]:
    """Forward and backward of one use."""
    x, residual = (torch.randn(shape, requires_grad=True) for _ in range(2))
    grad = torch.randn(shape)

    def run() -> object:
        if use == "alone":
            return torch.autograd.grad(drop(x), x, grad)
        total = drop.added(residual, x) if isinstance(drop, Dropout) else residual + drop(x)
        return torch.autograd.grad(total, (x, residual), grad)

    return run


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    for case in wanted(CASES, given.case):
        shape, use = case.split("/")
        mine, theirs = (timed(work(drop, SHAPES[shape], use)) for drop in (Dropout(0.1), nn.Dropout(0.1)))
        versions = {"torch": torch.__version__}
        side_by_side(
            "dropout", case, mine, theirs, peer_name="torch dropout", runs=given.runs, versions=versions
        )


if __name__ == "__main__":
    main()
