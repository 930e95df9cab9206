"""What decides an augmentation, a distillation or a quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fenghuo.config import Recipe
from fenghuo.corpus.batch import BatchRecipe
from fenghuo.models.recipe import ModelRecipe
from fenghuo.tasks.recipe import DataRecipe, TaskRecipe, with_dataset
from fenghuo.training.recipe import OptimizerRecipe, PatientTrainRecipe, ScheduleRecipe


class EvaluateRecipe(Recipe):
    """What a smaller model is compared on with the one it came from."""

    data: DataRecipe
    """`data.test` decides, or `data.dev` where there is none; labels are the model's."""
    max_drop: float | None = Field(default=None, ge=0)
    """Points of the task's metric (hundredths) that may be lost; more is exit code 3, and no model."""


class QuantizeRecipe(Recipe):
    """A model, how its numbers are made smaller, and what that may cost."""

    model: Path
    """Model folder or run folder."""
    method: Literal["dynamic"] = "dynamic"
    """dynamic: int8 weights; activations are rounded while the model runs, so no calibration data is needed."""
    evaluate: EvaluateRecipe | None = None
    """Rows to compare on; absent: the model is quantized unseen."""


class AugmentRecipe(Recipe):
    """New texts from labelled ones: words replaced by others that the masked language model finds likely there."""

    model: Path
    """Pretrained folder or run with an MLM head."""
    task: TaskRecipe = TaskRecipe(kind="classify")
    """Kind of the rows: classify, pair or tag."""
    data: DataRecipe
    """`data.train` is augmented."""
    lexicon: list[str] = Field(default_factory=list)
    """Further text whose words may be put in (files, folders, globs); the rows' own words always may."""
    copies: int = Field(default=10, gt=0)
    """Tries a row (TinyBERT's N: 10 to 30); a text that already stands there is not written again."""
    share: float = Field(default=0.4, gt=0, le=1)
    """Probability that a word is replaced (TinyBERT's p)."""
    candidates: int = Field(default=15, gt=0)
    """Replacements to choose from, a word (TinyBERT's K)."""
    max_length: int = Field(default=128, ge=8)
    """Pieces of a text that the model sees around a word."""
    segmenter: Literal["rjieba"] = "rjieba"
    """What cuts Chinese into words."""
    seed: int = Field(default=0, ge=0)
    """Decides which words are replaced, and by which candidate."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> Any:
        return with_dataset(given)


class MatchRecipe(Recipe):
    """What the student imitates, and how much each part weighs."""

    layers: Literal["uniform", "top", "bottom"] | list[tuple[int, int]] = "uniform"
    """Student layer ← teacher layer, counted from 1: a rule, or a list of pairs."""
    embeddings: float = Field(default=1.0, ge=0)
    """Weight of the embedding output's mean squared error."""
    hidden: float = Field(default=1.0, ge=0)
    """Weight of the layers' mean squared error, each layer added."""
    attention: float = Field(default=1.0, ge=0)
    """Weight of the raw attention scores' mean squared error, each layer added."""
    temperature: float = Field(default=1.0, gt=0)
    """Softens both sides of the prediction loss."""


class IntermediateRecipe(Recipe):
    """Stage 1 of task distillation: the teacher's inside."""

    exactly_one: ClassVar = (("steps", "epochs"),)

    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps; or give `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the rows and their augmentations (TinyBERT: 10 to 50)."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of this stage."""
    schedule: ScheduleRecipe = ScheduleRecipe(name="constant", warmup=0.0)
    """Learning rate over the steps; TinyBERT keeps it constant."""


class DistillRecipe(Recipe):
    """A teacher, a student, what is imitated, and on which text."""

    stage: Literal["general", "task"]
    """general: a pretrained teacher on raw text. task: a fine-tuned teacher on rows, inside first, then answers."""
    teacher: Path
    """Model folder or run folder."""
    student: ModelRecipe
    """A preset, or the general student to go on from."""
    match: MatchRecipe = MatchRecipe()
    """Layers, weights, temperature."""
    corpus: Path | None = None
    """Run folder of `fenghuo corpus` (general)."""
    max_length: int = Field(default=128, ge=8)
    """Longest example of raw text in pieces (general); rows take the teacher's."""
    data: DataRecipe | None = None
    """Files of rows (task); labels are read from dev and test only."""
    augmented: Path | None = None
    """Further unlabelled rows, such as a run of `fenghuo augment` wrote (task)."""
    intermediate: IntermediateRecipe | None = None
    """Stage 1 of task distillation; absent: answers only."""
    batch: BatchRecipe = BatchRecipe(rows=32)
    """Size of a batch."""
    optimizer: OptimizerRecipe = OptimizerRecipe(learning_rate=1e-4)
    """adamw or lamb."""
    schedule: ScheduleRecipe = ScheduleRecipe()
    """Learning rate over the steps."""
    train: PatientTrainRecipe
    """Steps, epochs or budget of the general stage, or of stage 2 of the task stage."""

    @model_validator(mode="after")
    def _keys_of_the_stage(self) -> Self:
        """Keys without a part in the stage would be ignored in silence."""
        other = ("data", "augmented", "intermediate") if self.stage == "general" else ("corpus",)
        given = [name for name in other if getattr(self, name) is not None]
        if given:
            raise ValueError(f"'{given[0]}' has no part in the {self.stage} stage")
        if self.student.tokenizer is not None:
            raise ValueError(
                "'student.tokenizer' has no part in distillation: the student takes the teacher's"
            )
        judged = [name for name in ("evaluate_every", "patience") if getattr(self.train, name) is not None]
        if self.stage == "general" and judged:
            raise ValueError(f"'train.{judged[0]}' has no part in the general stage: no dev set judges it")
        inside = self.stage == "general" or self.intermediate is not None
        if inside and not (self.match.embeddings or self.match.hidden or self.match.attention):
            raise ValueError("every weight of match is 0: nothing inside the teacher is imitated")
        return self
