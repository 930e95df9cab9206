"""The keys `optimizer`, `schedule` and `train` of every recipe that moves weights."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fenghuo.config import Recipe


def seconds_of(given: Any) -> Any:
    """`90s`, `30m`, `2h`, `1h30m`, `1d12h`, or a number of seconds → seconds.

    Raises:
        ValueError: text that is none of these.
    """
    if not isinstance(given, str):
        return given
    text = given.strip()
    parts = re.fullmatch(r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", text)
    try:
        if re.fullmatch(r"[\d.]+", text):
            return float(text)
        if parts is None or not any(parts.groups()):
            raise ValueError
        return sum(
            float(part or 0) * unit_s
            for part, unit_s in zip(parts.groups(), (86400, 3600, 60, 1), strict=True)
        )
    except ValueError:
        raise ValueError(
            "not a time; allowed: 90s, 30m, 2h, 1h30m and the like, or a number of seconds"
        ) from None


class LookaheadRecipe(Recipe):
    """Slow weights behind the optimizer's (arXiv 1907.08610)."""

    steps: int = Field(default=5, gt=0)
    """Optimizer steps between two moves of the slow weights."""
    rate: float = Field(default=0.5, gt=0, le=1)
    """Share of the way to the optimizer's weights that the slow ones move."""


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
    clip: float | None = Field(default=1.0, gt=0)
    """Largest global gradient norm; null: gradients stay as they are."""
    bias_correction: bool = True
    """Whether lamb corrects its moments for their start at zero: true in the paper, NVIDIA's and NEZHA's, false in
    Google's."""
    trust_clip: float | None = Field(default=10.0, gt=0)
    """Largest trust ratio of lamb (NEZHA: 10); null: none (the paper, Google, NVIDIA)."""
    adapt: Literal["decayed", "all"] = "decayed"
    """Tensors that lamb scales by their trust ratio: decayed leaves out biases and norms (Google, NVIDIA), all does not
    (the paper, NEZHA)."""
    lookahead: LookaheadRecipe | None = None
    """Slow weights around either optimizer, which evaluations see and the run ends with; null: none."""

    @model_validator(mode="after")
    def _keys_of_the_optimizer(self) -> Self:
        _refuse_idle(self, {"bias_correction": "lamb", "trust_clip": "lamb", "adapt": "lamb"})
        return self


class ScheduleRecipe(Recipe):
    """The learning rate over the run, as a share of its peak."""

    name: Literal["linear", "cosine", "constant", "polynomial", "inverse_sqrt", "wsd"] = "linear"
    """Shape after the warm-up; wsd stays at the peak and falls at the end."""
    warmup: float = Field(default=0.1, ge=0)
    """Below 1: share of the run; from 1 on: a number of steps."""
    end: float = Field(default=0.0, ge=0, lt=1)
    """Share of the peak that is left at the end of linear, cosine, polynomial or wsd."""
    power: float = Field(default=1.0, gt=0)
    """Exponent of polynomial decay."""
    decay: float = Field(default=0.2, gt=0, lt=1)
    """Share of the run over which wsd falls."""
    fall: Literal["linear", "sqrt"] = "linear"
    """How wsd falls: sqrt is 1 - sqrt (ModernBERT, arXiv 2405.18392)."""

    @model_validator(mode="after")
    def _keys_of_the_shape(self) -> Self:
        _refuse_idle(self, {"power": "polynomial", "decay": "wsd", "fall": "wsd"})
        if self.end and self.name in ("constant", "inverse_sqrt"):
            raise ValueError(f"'end' has no part in {self.name}")
        return self


class TrainRecipe(Recipe):
    """How long, how exactly, and what is kept on the way."""

    exactly_one: ClassVar = (("steps", "epochs", "budget"),)
    changeable: ClassVar[tuple[str, ...]] = ("device", "jump", "skip", "track")

    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps; or give `epochs` or `budget`."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data; or give `steps` or `budget`."""
    budget: Annotated[float, BeforeValidator(seconds_of), Field(gt=0)] | None = None
    """Time that the whole run may take, restarts, evaluations and saving included, such as 2h, 1h30m, 90s, or a number
    of seconds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the arithmetic is done; auto: on a CUDA card where torch sees one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 run matrix products under autocast, fp16 with a loss scale; weights stay fp32."""
    recompute: bool = False
    """Whether layers are computed again in the backward pass instead of kept: less memory, about a third more time."""
    compile: bool = False
    """Whether torch.compile makes kernels for the layers (CUDA only)."""
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
    skip: tuple[tuple[int, ...], ...] = ()
    """Places of batches to leave out, as a run that ended because of its loss named them."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where the lines of metrics.jsonl go besides: tensorboard, files under RUN/tensorboard; wandb, under RUN/wandb,
    and nothing over the network unless WANDB_MODE is set."""

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """Optimizer steps of the whole run; None where the clock decides."""
        if self.steps is not None:
            return self.steps
        if self.epochs is None:
            return None
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

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        """A part of a gradient may overflow where the others do not."""
        if self.parallel == "fsdp" and self.precision == "fp16":
            raise ValueError("'precision' fp16 does not go with 'parallel' fsdp: give bf16, or ddp")
        return self


def _refuse_idle(recipe: OptimizerRecipe | ScheduleRecipe, homes: dict[str, str]) -> None:
    """A key that differs from its default, where the named choice does not read it, would be ignored in silence."""
    for key, home in homes.items():
        if recipe.name != home and getattr(recipe, key) != type(recipe).model_fields[key].default:
            raise ValueError(f"'{key}' has no part in {recipe.name}: it is a value of {home}")
