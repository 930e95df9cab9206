"""What decides a fine-tuning run."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from fenghuo.config import Recipe
from fenghuo.corpus.batch import BatchRecipe
from fenghuo.models.recipe import ModelRecipe
from fenghuo.tasks.recipe import DataRecipe, TaskRecipe, with_dataset
from fenghuo.training.recipe import OptimizerRecipe, PatientTrainRecipe, ScheduleRecipe


class FinetuneRecipe(Recipe):
    """Model, task and data of one fine-tuning run."""

    model: ModelRecipe
    """A pretrained folder or run; or a preset, for the same network from scratch."""
    task: TaskRecipe
    """classify, pair or tag, or a data set's name."""
    data: DataRecipe
    """Files of labelled rows."""
    batch: BatchRecipe = BatchRecipe(rows=32)
    """Size of a batch."""
    optimizer: OptimizerRecipe = OptimizerRecipe(learning_rate=5e-5)
    """adamw or lamb."""
    schedule: ScheduleRecipe = ScheduleRecipe()
    """Learning rate over the steps."""
    train: PatientTrainRecipe = PatientTrainRecipe(epochs=3)
    """Epochs or steps, seed, evaluation, patience."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> Any:
        return with_dataset(given)
