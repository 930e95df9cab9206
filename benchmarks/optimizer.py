"""One optimizer step: milliseconds, LAMB and Lookahead beside torch's fused AdamW, over a real model's parameters.

    .venv/bin/python benchmarks/optimizer.py --quick

Cases: {4l312|base}/{lamb|adamw-lookahead}: NEZHA's shapes with 21,128 pieces and the MLM head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fenghuo.models.build import build
from fenghuo.net.config import HeadsConfig
from fenghuo.training.optim import build_optimizer
from fenghuo.training.recipe import LookaheadRecipe, OptimizerRecipe
from measure import THREADS, arguments, side_by_side, timed, wanted

PRESETS = {"4l312": "nezha-4l-312", "base": "nezha-base"}
RECIPES = {
    "lamb": OptimizerRecipe(name="lamb"),
    "adamw-lookahead": OptimizerRecipe(lookahead=LookaheadRecipe()),
}
CASES = [f"{preset}/{name}" for preset in PRESETS for name in RECIPES]


def work(model: nn.Module, recipe: OptimizerRecipe) -> Callable[[], float]:
    """One timed step; gradients are put there before, since LAMB writes over them."""
    optimizer = build_optimizer(model, recipe)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = [torch.randn_like(weight) * 0.01 for weight in weights]
    step = timed(optimizer.step)

    def run() -> float:
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        return step()

    return run


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(THREADS)
    for case in wanted(CASES, given.case):
        preset, name = case.split("/")
        heads = HeadsConfig(mlm=True)
        models = [build(PRESETS[preset], values={}, vocab=21128, heads=heads, seed=0) for _ in "ab"]
        mine, theirs = work(models[0], RECIPES[name]), work(models[1], OptimizerRecipe())
        versions = {"torch": torch.__version__}
        side_by_side(
            "optimizer", case, mine, theirs, peer_name="torch fused AdamW", runs=given.runs, versions=versions
        )


if __name__ == "__main__":
    main()
