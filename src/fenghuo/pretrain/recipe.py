"""What decides a pretraining run."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from fenghuo.config import Recipe
from fenghuo.corpus.batch import BatchRecipe, Packing
from fenghuo.models.recipe import ModelRecipe
from fenghuo.objectives.recipe import AnyObjective, MlmRecipe, alternatives
from fenghuo.training.recipe import OptimizerRecipe, ScheduleRecipe, TrainRecipe


class PretrainRecipe(Recipe):
    """Corpus, model, objective and optimizer of one pretraining run."""

    corpus: Path
    """Run folder of `fenghuo corpus`."""
    model: ModelRecipe
    """A preset (nezha-4l-312), values, or a folder to go on from."""
    max_length: int = Field(default=128, ge=8)
    """Longest example in pieces, [CLS] and [SEP] counted."""
    objectives: list[AnyObjective] = Field(default=[MlmRecipe()], min_length=1)
    """What is asked."""
    packing: Packing = "doc-sentences"
    """What an example holds: doc-sentences, sentences of one document; full-sentences go on into the next document,
    with a [SEP] between them, so that nearly all examples have `max_length` pieces."""
    mask_copies: int | None = Field(default=None, gt=0)
    """So many sets of masks, used in turn over the epochs, as of data duplicated once for all; absent: new masks in
    every epoch."""
    batch: BatchRecipe = BatchRecipe(pieces=8192)
    """Size of a global batch."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    """adamw or lamb."""
    schedule: ScheduleRecipe = ScheduleRecipe()
    """Learning rate over the steps."""
    train: TrainRecipe
    """Steps or epochs, seed, saving."""

    @field_validator("objectives")
    @classmethod
    def _go_together(cls, objectives: list[AnyObjective]) -> list[AnyObjective]:
        alternatives(objectives)
        return objectives

    @model_validator(mode="after")
    def _pairs_of_one_document(self) -> Self:
        if self.packing == "full-sentences":
            for number, objective in enumerate(self.objectives):
                if objective.frames:
                    raise ValueError(
                        f"objectives[{number}]: '{objective.name}' needs 'packing: doc-sentences': the edge between "
                        "two documents would answer it"
                    )
        return self

    @model_validator(mode="after")
    def _the_corpus_tokenizer(self) -> Self:
        """Another one would be ignored in silence."""
        if self.model.tokenizer is not None:
            raise ValueError("'model.tokenizer' has no part in pretraining: the corpus brings its own")
        return self
