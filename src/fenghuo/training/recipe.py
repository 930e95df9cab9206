"""The keys `optimizer`, `schedule` and `train` of every recipe that moves weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from fenghuo.config import Recipe


class OptimizerRecipe(Recipe):
    """How a gradient becomes a step."""

    name: Literal["adamw", "lamb"] = "adamw"
    """adamw (arXiv 1711.05101), or lamb (arXiv 1904.00962) for batches of thousands of sequences."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate; the schedule scales it."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and of the second moment."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled decay; never applied to biases and norms."""
    clip: float = Field(default=1.0, gt=0)
    """Largest global gradient norm."""
    trust_clip: float = Field(default=10.0, gt=0)
    """Largest trust ratio of lamb."""


class ScheduleRecipe(Recipe):
    """The learning rate over the steps, as a share of its peak."""

    name: Literal["linear", "cosine", "constant", "polynomial", "wsd"] = "linear"
    """Shape after the warm-up; wsd stays at the peak and falls linearly over the last fifth."""
    warmup: float = Field(default=0.1, ge=0)
    """Below 1: share of all steps; from 1 on: a number of steps."""
    power: float = Field(default=1.0, gt=0)
    """Exponent of polynomial decay."""


class TrainRecipe(Recipe):
    """How long, how exactly, and what is kept on the way."""

    exactly_one: ClassVar = (("steps", "epochs"),)
    changeable: ClassVar[tuple[str, ...]] = ("jump", "skip")

    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps; or give `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data; or give `steps`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs matrix products under autocast; weights stay fp32."""
    seed: int = Field(default=0, ge=0)
    """Decides initial weights, order, masks and dropout."""
    log_every: int = Field(default=10, gt=0)
    """Steps between two lines of metrics.jsonl."""
    save_every: int = Field(default=200, gt=0)
    """Steps between two checkpoints."""
    keep: int = Field(default=2, gt=0)
    """How many of the newest checkpoints stay on disk."""
    evaluate_every: int | None = Field(default=None, gt=0)
    """Steps between two evaluations; absent: at the end of each epoch, in pretraining five times a run."""

    jump: float | None = Field(default=None, gt=1)
    """Largest loss, in medians of the last 100 steps; one above it ends the run before that step; null: none does."""
    skip: tuple[tuple[int, int], ...] = ()
    """Batches to leave out, each as [epoch, batch], such as those that a bad loss was named with."""

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * steps_per_epoch))


class PatientTrainRecipe(TrainRecipe):
    """Training that a dev set judges on the way, and may end."""

    patience: int | None = Field(default=None, gt=0)
    """Stop after so many evaluations without a better score; absent: never."""


class ParallelTrainRecipe(TrainRecipe):
    """Training that torchrun may spread over processes."""

    changeable: ClassVar = (*TrainRecipe.changeable, "parallel")

    jump: float | None = Field(default=3.0, gt=1)
    """Largest loss, in medians of the last 100 steps; one above it ends the run before that step; null: none does."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How processes of torchrun share the model: ddp copies it, fsdp cuts it, its gradients and moments over them."""
