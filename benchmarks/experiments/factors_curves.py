"""The picture of `pretraining_factors.py`: held-out loss over the pieces seen, of the arms that are asked alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

ALIKE = ("base", "absolute", "lookahead", "large-adamw", "large-lamb")  # the same question of the same text
Curve = list[tuple[float, float]]  # (millions of pieces, nats)


def draw(out: Path, seeds: Mapping[str, Sequence[int]], batch: Mapping[str, int], target: Path) -> None:
    """Draw what stands in the folder of runs so far; of several seeds the mean, and a band from least to most.

    Args:
        seeds: of pretraining, by arm.
        batch: pieces a step, by arm.
        target: a file that matplotlib knows by its ending.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, arm in enumerate(ALIKE):
        runs = [curve for seed in seeds[arm] if (curve := _curve(out / f"{arm}-{seed}", batch[arm]))]
        if not runs:
            continue
        style = {"color": f"C{number}", "linestyle": "--" if arm.startswith("large") else "-"}
        pieces = [x for x, _ in min(runs, key=len)]
        losses = list(zip(*([y for _, y in run] for run in runs), strict=False))
        label = f"{arm} ({len(runs)} seeds)" if len(runs) > 1 else arm
        axes.plot(
            pieces, [sum(at) / len(at) for at in losses], label=label, marker="o", markersize=3, **style
        )
        if len(runs) > 1:
            axes.fill_between(
                pieces, [min(at) for at in losses], [max(at) for at in losses], alpha=0.2, color=f"C{number}"
            )
    axes.set(xlabel="millions of pieces seen", ylabel="loss of hidden words on held-out text, nats")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(target, dpi=110)


def _curve(run: Path, batch: int) -> Curve:
    path = run / "metrics.jsonl"
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines() if path.exists() else ())
    told = ((line["step"], line.get("heldout/mlm", line.get("heldout/loss"))) for line in lines)
    return [(step * batch / 1e6, loss) for step, loss in told if loss is not None]
