"""What changes on a pretraining run's way: the length of its examples, and the size of its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from fenghuo.corpus.batch import BatchRecipe
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.shards import ShardSource
from fenghuo.corpus.visits import Cursor
from fenghuo.pretrain.recipe import GrowingBatchRecipe, PhaseRecipe, PretrainRecipe, WarmupRecipe
from fenghuo.training.course import BySteps
from fenghuo.training.recipe import TrainRecipe


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the run."""

    max_length: int
    ends: float
    """Share of the run after which it is over."""
    source: ShardSource
    loader: Loader
    """Its batches are the parts that a step takes one or more of."""
    parts: int = 1
    """Of a full batch."""
    warmup: WarmupRecipe | None = None

    def taken(self, step: int) -> int:
        """Parts that a step (from 1 in this phase) takes: evenly more, and the full batch after the warm-up."""
        if self.warmup is None or step > self.warmup.steps:
            return self.parts
        return 1 + (self.parts - 1) * (step - 1) // self.warmup.steps

    def steps_of(self, epochs: float) -> int:
        """Steps that see the data so many times."""
        left = round(epochs * self.loader.batches_per_epoch())
        steps = 0
        while self.warmup is not None and steps < self.warmup.steps and left > 0:
            steps += 1
            left -= self.taken(steps)
        return max(1, steps + max(0, round(left / self.parts)))


class Curriculum:
    """Phases one after another; the cursor is (phase, epoch, batch, steps in this phase).

    Which phase a step belongs to, the course says: its share of the steps, or of the time. A phase that is left does
    not come back, so a resumed run goes on in the one that its checkpoint names.
    """

    start = (0, 0, 0, 0)

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = phases

    def iterate(self, course: BySteps) -> Callable[[tuple[int, ...]], Iterator[tuple[tuple[int, ...], Any]]]:
        """Cursor → endless (cursor after the step, its micro-batches), as a session takes it."""

        def go(cursor: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any]]:
            parts = self.phases[cursor[0]].loader.iterate(Cursor(*cursor[1:3]))
            while True:
                entered = self._entered(cursor, course)
                number, _, _, step = entered
                if entered != cursor:
                    parts = self.phases[number].loader.iterate(Cursor())
                micro_batches = []
                for _ in range(self.phases[number].taken(step + 1)):
                    place, part = next(parts)
                    micro_batches += part
                cursor = (number, place.epoch, place.batch, step + 1)
                yield cursor, micro_batches

        return go

    def describe(self, course: BySteps, cursor: tuple[int, ...]) -> dict[str, Any]:
        """The batch of the step that begins at a cursor, for people: its phase, and its examples by loader batch."""
        number, epoch, batch, step = self._entered(cursor, course)
        phase, place, batches = self.phases[number], Cursor(epoch, batch), []
        for _ in range(phase.taken(step + 1)):
            described = [phase.source.describe(int(index)) for index in phase.loader.examples(place)]
            batches.append({"epoch": place.epoch, "batch": place.batch, "examples": described})
            place = phase.loader.after(place)
        return {"phase": number, "batches": batches}

    def _entered(self, cursor: tuple[int, ...], course: BySteps) -> tuple[int, int, int, int]:
        """`cursor`, or the beginning of the next phase where that has come."""
        number, epoch, batch, step = cursor
        now = self.at(course.before)
        return (now, 0, 0, 0) if now > number else (number, epoch, batch, step)

    def at(self, share: float) -> int:
        """The phase in which a step begins, when `share` of the run is over."""
        return next(
            (n for n, phase in enumerate(self.phases[:-1]) if share < phase.ends - 1e-9), len(self.phases) - 1
        )

    def total_steps(self, train: TrainRecipe) -> int | None:
        """Optimizer steps of the whole run; None where the clock decides."""
        if train.epochs is not None:
            return self.phases[0].steps_of(train.epochs)
        return train.steps

    def told(self) -> list[str]:
        """Lines for `--dry-run`, where there is anything to tell."""
        lines, begins = [], 0.0
        for phase in self.phases:
            grows = (
                ""
                if phase.warmup is None
                else f", from 1/{phase.parts} of it over {phase.warmup.steps:,} steps"
            )
            if len(self.phases) > 1 or grows:
                full = phase.loader.batches_per_epoch() / phase.parts
                lines.append(
                    f"phase            {begins:.0%} to {phase.ends:.0%}: up to {phase.max_length} pieces an example, "
                    f"{full:,.0f} batches an epoch{grows}"
                )
            begins = phase.ends
        return lines


def curriculum(
    recipe: PretrainRecipe, loader_of: Callable[[int, BatchRecipe], tuple[ShardSource, Loader]]
) -> Curriculum:
    """The phases of a recipe.

    Args:
        loader_of: (longest example, size of the loader's batches) → its examples and their loader.
    """
    phases = recipe.phases or [PhaseRecipe(max_length=recipe.max_length, share=1.0)]
    ends = list(accumulate(phase.share for phase in phases))
    return Curriculum(
        [
            _phase(phase, end, phase.batch or recipe.batch, loader_of)
            for phase, end in zip(phases, ends, strict=True)
        ]
    )


def _phase(
    phase: PhaseRecipe,
    ends: float,
    batch: GrowingBatchRecipe,
    loader_of: Callable[[int, BatchRecipe], tuple[ShardSource, Loader]],
) -> Phase:
    sizes = {name: getattr(batch, name) for name in BatchRecipe.model_fields}
    for name in ("pieces", "rows"):
        sizes[name] = None if sizes[name] is None else max(1, round(sizes[name] / batch.parts))
    source, loader = loader_of(phase.max_length, BatchRecipe(**sizes))
    return Phase(
        max_length=phase.max_length,
        ends=ends,
        source=source,
        loader=loader,
        parts=batch.parts,
        warmup=batch.warmup,
    )
