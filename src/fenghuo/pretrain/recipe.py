"""What decides a pretraining run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fenghuo.config import Recipe
from fenghuo.corpus.batch import BatchRecipe, Packing
from fenghuo.models.recipe import ModelRecipe
from fenghuo.objectives.recipe import AnyObjective, MlmRecipe, alternatives
from fenghuo.tasks.recipe import DataRecipe, TaskRecipe, with_dataset
from fenghuo.training.recipe import OptimizerRecipe, ParallelTrainRecipe, ScheduleRecipe


class WarmupRecipe(Recipe):
    """Batches that begin small."""

    start: float = Field(gt=0, lt=1)
    """Share of the full batch that the first steps take."""
    steps: int = Field(gt=0)
    """Steps over which batches grow, evenly."""


class GrowingBatchRecipe(BatchRecipe):
    """How much goes into one optimizer step, at the beginning and later."""

    warmup: WarmupRecipe | None = None
    """Small batches first (cramming, arXiv 2212.14034; ModernBERT); null: all are of one size."""

    @property
    def parts(self) -> int:
        """Into how many of the loader's batches the full one is cut, so that a step can take some of them."""
        return 1 if self.warmup is None else max(2, round(1 / self.warmup.start))

    @model_validator(mode="after")
    def _room_for_parts(self) -> Self:
        if (self.pieces or self.rows or 0) < self.parts:
            raise ValueError(
                f"'warmup.start' asks for {self.parts} parts of a batch that has fewer pieces or rows"
            )
        return self


class PhaseRecipe(Recipe):
    """A part of the run with a length of its own."""

    max_length: int = Field(ge=8)
    """Longest example in pieces, [CLS] and [SEP] counted."""
    share: float = Field(gt=0, le=1)
    """Share of the run's steps, or of its budget; those of all phases add up to 1."""
    batch: GrowingBatchRecipe | None = None
    """Size of a global batch in this phase; null: the recipe's."""


class ProbeRecipe(Recipe):
    """Labelled rows that each evaluation reads with the encoder as it is, as `fenghuo finetune` takes them."""

    task: TaskRecipe
    """classify or pair, or a data set's name."""
    data: DataRecipe
    """Files of rows: `train` to learn a line from, `test` to ask about."""
    rows: int = Field(default=2000, gt=1)
    """Of each file, at most."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> Any:
        return with_dataset(given)

    @model_validator(mode="after")
    def _whole_texts(self) -> Self:
        if self.task.kind == "tag":
            raise ValueError("a probe asks about whole texts: task classify or pair")
        self.files()
        return self

    def files(self) -> tuple[Path, Path]:
        """Rows to learn from, and rows to ask about."""
        if self.data.train is None or self.data.test is None:
            raise ValueError("a probe needs data.train and data.test")
        return self.data.train, self.data.test


class PretrainRecipe(Recipe):
    """Corpus, model, objective and optimizer of one pretraining run."""

    corpus: Path
    """Run folder of `fenghuo corpus`."""
    model: ModelRecipe
    """A preset (nezha-4l-312), values, or a folder to go on from."""
    max_length: int = Field(default=128, ge=8)
    """Longest example in pieces, special ones counted; with phases, the longest of theirs."""
    phases: list[PhaseRecipe] = Field(default=[])
    """Lengths one after another, such as 128 for 0.9 and 512 for 0.1 of the run (BERT); empty: `max_length`
    throughout."""
    objectives: list[AnyObjective] = Field(default=[MlmRecipe()], min_length=1)
    """What is asked."""
    packing: Packing = "doc-sentences"
    """What an example holds: doc-sentences, sentences of one document; full-sentences go on into the next document,
    with a [SEP] between them, so that nearly all examples have `max_length` pieces."""
    mask_copies: int | None = Field(default=None, gt=0)
    """So many sets of masks, used in turn over the epochs, as of data duplicated once for all; absent: new masks in
    every epoch."""
    batch: GrowingBatchRecipe = GrowingBatchRecipe(pieces=8192)
    """Size of a global batch."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    """adamw or lamb."""
    schedule: ScheduleRecipe = ScheduleRecipe()
    """Learning rate over the steps."""
    probe: ProbeRecipe | None = None
    """A task that every evaluation looks at, beside held-out text; null: none."""
    pseudo_perplexity: Literal["each", "last"] = "each"
    """At which evaluations held-out pieces are asked alone, 1,000 of them: twice (max_length 128) to eight times (512)
    the work of the rest of an evaluation."""
    train: ParallelTrainRecipe
    """Steps, epochs or a budget, seed, saving."""

    @model_validator(mode="before")
    @classmethod
    def _longest_phase(cls, given: Any) -> Any:
        phases = given.get("phases") if isinstance(given, dict) else None
        if phases and isinstance(phases, list) and "max_length" not in given:
            lengths = [phase.get("max_length") for phase in phases if isinstance(phase, dict)]
            whole = [length for length in lengths if isinstance(length, int)]
            if whole and len(whole) == len(phases):
                return {**given, "max_length": max(whole)}
        return given

    @model_validator(mode="after")
    def _whole_phases(self) -> Self:
        if not self.phases:
            return self
        longest = max(phase.max_length for phase in self.phases)
        if self.max_length != longest:
            raise ValueError(
                f"'max_length' is {self.max_length}, but the longest phase has {longest}: give one of both"
            )
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            shares = ", ".join(f"{phase.share:g}" for phase in self.phases)
            raise ValueError(f"the shares of 'phases' ({shares}) do not add up to 1")
        if self.train.epochs is not None:
            raise ValueError(
                "'train.epochs' has no meaning over phases, whose epochs differ: give steps or budget"
            )
        return self

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
