"""What decides a pretraining run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from fenghuo.config import Recipe
from fenghuo.corpus.batch import BatchRecipe
from fenghuo.models.recipe import ModelRecipe
from fenghuo.training.recipe import OptimizerRecipe, ParallelTrainRecipe, ScheduleRecipe


class ObjectiveRecipe(Recipe):
    """One question asked of raw text."""

    name: Literal["mlm"] = "mlm"
    """mlm hides pieces and asks for them back."""
    rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of pieces that are hidden."""
    unit: Literal["word", "piece"] = "word"
    """word hides all pieces of a word together (whole-word masking)."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of this loss."""


class PretrainRecipe(Recipe):
    """Corpus, model, objective and optimizer of one pretraining run."""

    corpus: Path
    """Run folder of `fenghuo corpus`."""
    model: ModelRecipe
    """A preset (nezha-4l-312), values, or a folder to go on from."""
    max_length: int = Field(default=128, ge=8)
    """Longest example in pieces, [CLS] and [SEP] counted."""
    objectives: list[ObjectiveRecipe] = Field(default=[ObjectiveRecipe()], min_length=1, max_length=1)
    """What is asked."""
    batch: BatchRecipe = BatchRecipe(pieces=8192)
    """Size of a global batch."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    """adamw or lamb."""
    schedule: ScheduleRecipe = ScheduleRecipe()
    """Learning rate over the steps."""
    train: ParallelTrainRecipe
    """Steps or epochs, seed, saving."""

    @model_validator(mode="after")
    def _the_corpus_tokenizer(self) -> Self:
        """Another one would be ignored in silence."""
        if self.model.tokenizer is not None:
            raise ValueError("'model.tokenizer' has no part in pretraining: the corpus brings its own")
        return self
