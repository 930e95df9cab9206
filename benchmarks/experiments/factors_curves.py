"""The picture of `pretraining_factors.py`: held-out loss over the pieces seen, of the arms that are asked alike.

.venv/bin/python benchmarks/experiments/factors_curves.py docs/results/2026-11-23-pretraining-factors.jsonl FILE.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from factors_records import Record, read
from matplotlib.figure import Figure

ALIKE = ("base", "absolute", "lookahead", "large-adamw", "large-lamb")  # the same question of the same text
SEED = 1  # every arm has it; another draws other questions


def draw(records: Sequence[Record], target: Path) -> None:
    """Draw them.

    Args:
        target: a file that matplotlib knows by its ending.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    curves = {record.arm: record.curve for record in records if record.curve and record.seed == SEED}
    for arm in ALIKE:
        style = "--" if arm.startswith("large") else "-"
        axes.plot(*zip(*curves[arm], strict=True), style, label=arm, marker="o", markersize=3)
    axes.set(xlabel="millions of pieces seen", ylabel="loss of hidden words on held-out text, nats")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(read(Path(sys.argv[1])), Path(sys.argv[2]))
