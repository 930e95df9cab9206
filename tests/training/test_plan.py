"""What a run says beforehand that it will take."""

from __future__ import annotations

import pytest
from torch import nn

from fenghuo.training.plan import training_plan
from fenghuo.training.recipe import TrainRecipe


@pytest.mark.parametrize(("judged", "disk_mb"), [(False, 1 + 3 * 3), (True, 1 + 3 * 3 + 3)])
def test_the_best_weights_take_disk_too(judged: bool, disk_mb: int) -> None:
    model = nn.Linear(500, 500, bias=False)  # 1 MB
    train = TrainRecipe(steps=9, keep=2)
    said = training_plan(model, examples=90, pieces=900, batches=10, train=train, judged=judged)
    assert f"disk             {disk_mb} MB" in said
