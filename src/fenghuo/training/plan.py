"""What a training run will take, said before it starts."""

from __future__ import annotations

from torch import nn

from fenghuo.training.recipe import OptimizerRecipe, TrainRecipe


def training_plan(
    model: nn.Module,
    *,
    examples: int,
    pieces: int,
    batches: int,
    train: TrainRecipe,
    optimizer: OptimizerRecipe,
    judged: bool,
    steps: int | None = None,
) -> str:
    """Lines for `--dry-run`: steps, pieces, and memory and disk in bytes that follow from the parameters.

    Args:
        pieces: in one pass over the data.
        batches: in one pass over the data.
        steps: of the run, where they are not what `train` and `batches` say.
        judged: a dev set chooses the best weights, which are kept for each checkpoint that names them.
    """
    steps = steps or train.total_steps(batches)
    weights = sum(weight.numel() for weight in model.parameters())
    megabytes = weights * 4 / 1e6
    slow = 0 if optimizer.lookahead is None else 1
    # A checkpoint holds weights, two moments and slow weights, and there is one more while it is written.
    copies = 1 + (3 + slow + judged) * (train.keep + 1)
    if steps is None:
        length = f"as many as {train.budget:,.0f} s allow"
    else:
        passes = steps / max(1, batches)
        length = f"{steps:,} ({passes:.2f} epochs, {round(pieces * passes):,} pieces)"
    kept = (
        "weights, gradients and two moments" if not slow else "weights, slow ones, gradients and two moments"
    )
    lines = [
        f"parameters       {weights:,}",
        f"examples         {examples:,} ({pieces:,} pieces, {batches:,} batches an epoch)",
        f"steps            {length}",
        f"memory           {(4 + slow) * megabytes:,.0f} MB for {kept}, and activations on top",
        f"disk             {copies * megabytes:,.0f} MB for the model and checkpoints",
    ]
    return "\n".join(lines)
