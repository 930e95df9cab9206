"""What a training run will take, said before it starts."""

from __future__ import annotations

from torch import nn

from fenghuo.training.recipe import TrainRecipe


def training_plan(
    model: nn.Module, *, examples: int, pieces: int, batches: int, train: TrainRecipe, judged: bool
) -> str:
    """Lines for `--dry-run`: steps, pieces, and memory and disk in bytes that follow from the parameters.

    Args:
        pieces: in one pass over the data.
        batches: in one pass over the data.
        judged: a dev set chooses the best weights, which are kept for each checkpoint that names them.
    """
    steps = train.total_steps(batches)
    weights = sum(weight.numel() for weight in model.parameters())
    megabytes = weights * 4 / 1e6
    # A checkpoint holds weights and two moments, and there is one more while it is written.
    copies = 1 + (4 if judged else 3) * (train.keep + 1)
    lines = [
        f"parameters       {weights:,}",
        f"examples         {examples:,} ({pieces:,} pieces, {batches:,} batches an epoch)",
        f"steps            {steps:,} ({steps / max(1, batches):.2f} epochs, "
        f"{pieces * steps // max(1, batches):,} pieces)",
        f"memory           {4 * megabytes:,.0f} MB for weights, gradients and two moments, and activations on top",
        f"disk             {copies * megabytes:,.0f} MB for the model and checkpoints",
    ]
    return "\n".join(lines)
