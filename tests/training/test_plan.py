"""What a run says beforehand that it will take."""

from __future__ import annotations

import pytest
from torch import nn

from fenghuo.training.plan import training_plan
from fenghuo.training.recipe import LookaheadRecipe, OptimizerRecipe, TrainRecipe


@pytest.mark.parametrize(("judged", "disk_mb"), [(False, 1 + 3 * 3), (True, 1 + 3 * 3 + 3)])
def test_the_best_weights_take_disk_too(judged: bool, disk_mb: int) -> None:
    model = nn.Linear(500, 500, bias=False)  # 1 MB
    train = TrainRecipe(steps=9, keep=2)
    sizes = {"examples": 90, "pieces": 900, "batches": 10}
    said = training_plan(model, **sizes, train=train, optimizer=OptimizerRecipe(), judged=judged)
    assert f"disk             {disk_mb} MB" in said


def test_slow_weights_take_memory_and_disk_and_a_budget_has_no_steps() -> None:
    model = nn.Linear(500, 500, bias=False)  # 1 MB
    said = training_plan(
        model,
        examples=90,
        pieces=900,
        batches=10,
        train=TrainRecipe(budget="1h30m", keep=1),
        optimizer=OptimizerRecipe(lookahead=LookaheadRecipe()),
        judged=False,
    )
    assert "memory           5 MB for weights, slow ones, gradients" in said
    assert "disk             9 MB" in said
    assert "as many as 5,400 s allow" in said
