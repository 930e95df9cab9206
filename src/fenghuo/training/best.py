"""The best evaluation of a session, its weights, and how long ago it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from fenghuo.training.state import read_checkpoint, write_checkpoint


@dataclass(slots=True)
class Best:
    """The best evaluation so far."""

    score: float | None = None
    step: int = 0
    worse: int = 0
    """Evaluations since then."""
    figures: dict[str, float] = field(default_factory=dict)
    over: bool = False
    """Whether patience has run out, so that no step follows."""

    def hear(self, score: float, step: int, figures: Mapping[str, float], *, patience: int | None) -> bool:
        """Take an evaluation into account; whether it is the best so far. Higher scores are better."""
        is_best = self.score is None or score > self.score
        if is_best:
            self.score, self.step, self.worse, self.figures = score, step, 0, dict(figures)
        else:
            self.worse += 1
        self.over = patience is not None and self.worse >= patience
        return is_best

    def keep(self, model: nn.Module, folder: Path) -> None:
        """Write the weights of this moment, which are the best; those before stay."""
        weights = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        write_checkpoint(folder, step=self.step, tensors=weights, values={}, keep=None)

    def restore(self, model: nn.Module, folder: Path) -> None:
        """Put the best weights back into the model; without any evaluation it stays as it is."""
        if self.score is not None:
            tensors = read_checkpoint(folder / f"step-{self.step}").tensors
            model.load_state_dict({name.removeprefix("model/"): tensor for name, tensor in tensors.items()})
