"""The picture of `pretraining_factors.py`: held-out loss over the pieces seen, of the arms that are asked alike.

.venv/bin/python benchmarks/experiments/factors_curves.py docs/results/pretraining-factors.jsonl FILE.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from factors_records import Record, read
from matplotlib.figure import Figure

ALIKE = ("base", "absolute", "lookahead", "large-adamw", "large-lamb")  # the same question of the same text


def draw(records: Sequence[Record], target: Path) -> None:
    """Draw them; of several seeds the mean, and a band from least to most.

    Args:
        target: a file that matplotlib knows by its ending.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, arm in enumerate(ALIKE):
        curves = [record.curve for record in records if record.arm == arm and record.curve]
        if not curves:
            continue
        style = {"color": f"C{number}", "linestyle": "--" if arm.startswith("large") else "-"}
        pieces = [x for x, _ in curves[0]]
        losses = list(zip(*([y for _, y in curve] for curve in curves), strict=True))
        label = f"{arm} ({len(curves)} seeds)" if len(curves) > 1 else arm
        axes.plot(
            pieces, [sum(at) / len(at) for at in losses], label=label, marker="o", markersize=3, **style
        )
        if len(curves) > 1:
            axes.fill_between(
                pieces, [min(at) for at in losses], [max(at) for at in losses], alpha=0.2, color=f"C{number}"
            )
    axes.set(xlabel="millions of pieces seen", ylabel="loss of hidden words on held-out text, nats")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(read(Path(sys.argv[1])), Path(sys.argv[2]))
