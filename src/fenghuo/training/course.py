"""How far a run has come, and when it is over: by its steps, or by the clock.

Schedules, phases and evaluations go by a course, so that they work under `train.steps`, `epochs` and `budget` alike.
A session calls `begin` before a step and `took` after it; between two such calls every answer is a pure function of
the step and of what `took` read, so that processes that agree on the latter agree on all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fenghuo.training.recipe import TrainRecipe

EVALUATIONS = 5
"""In a run whose recipe names no number of steps between them."""
FIRST_LOOK = 0.05
"""Share of a budget after which the first evaluation and checkpoint come: what they take is put by for the last."""
RECENT_STEPS = 20
"""The next step is taken to last as long as the longest of so many."""


class Reading(NamedTuple):
    """What a process knows of the time, in seconds."""

    spent_s: float
    """Since the run began."""
    stepping_s: float
    """Of them in steps."""
    step_s: float
    """The longest of the last steps."""
    evaluation_s: float
    saving_s: float


class BySteps:
    """A number of steps that is known."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step = 0

    @property
    def steps(self) -> int | None:
        """Steps of the whole run, where they are known."""
        return self._steps

    @property
    def total(self) -> float:
        """Steps of the whole run, an estimate where they are not known."""
        return self._steps

    @property
    def before(self) -> float:
        """Share of the run, in [0, 1), that is over when the step begins."""
        return (self._step - 1) / self._steps

    def begin(self, step: int) -> None:
        """Step `step` (from 1) is the next."""
        self._step = step

    def took(self) -> None:
        """The step was taken."""

    def paused(self, *, evaluation_s: float = 0.0, saving_s: float = 0.0) -> None:
        """An evaluation or a checkpoint took so long."""

    def evaluates(self, every: int | None) -> bool:
        """Whether an evaluation follows the step: each `every`th, or by default each fifth of the run."""
        return self._step % (every or max(1, self._steps // EVALUATIONS)) == 0

    def rehearses(self) -> bool:
        """Whether the evaluation after this step should do all that the last one does, to learn what that takes."""
        return False

    def saves(self, every: int) -> bool:
        """Whether a checkpoint follows the step."""
        return self._step % every == 0

    def is_last(self, *, evaluates: bool, saves: bool) -> bool:
        """Whether no step follows; what comes between (evaluation, checkpoint) matters to the clock alone."""
        return self._step >= self._steps

    def is_over(self) -> bool:
        """Whether there is no time for the step that begins."""
        return self._step > self._steps

    def to_json(self) -> dict[str, Any]:
        """What the next process of this run has to know."""
        return {}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from `to_json` of an earlier process."""

    def spent_before(self, spent_s: float) -> None:
        """Earlier processes took at least so long: work that a kill lost is done again, its time is not free."""

    @property
    def spent_s(self) -> float | None:
        """Seconds the run has taken, where the clock decides its end."""
        return None

    @property
    def left_s(self) -> float | None:
        """Seconds to the end of the run, where the clock decides it."""
        return None

    def result(self) -> dict[str, float]:
        """What result.json says of a budget."""
        return {}


class ByClock(BySteps):
    """Wall time, over all processes of a run.

    A step is begun only if, by what steps, evaluations and checkpoints took so far, it and the run's end fit into the
    budget; so the run ends before its time is over, by about a step. One step is taken in any case.

    The share of the run that is over is the time in steps over that time and what is left for steps, which start-up and
    evaluations are not; what the last evaluation and saving will take is put by from the start. So the share rises
    evenly, and the schedule ends with the last step.

    Args:
        began_s: `clock()` when this process began to work on the run.
        agree: the clock's reading here → the one that holds, in every process of a job: that of rank 0. Called once a
            step by every process.
    """

    def __init__(
        self,
        budget_s: float,
        *,
        began_s: float,
        clock: Callable[[], float] = time.monotonic,
        agree: Callable[[Reading], Reading] = lambda reading: reading,
    ) -> None:
        self.budget_s = budget_s
        self._began_s, self._clock, self._agree = began_s, clock, agree
        self._earlier_s = self._stepping_s = 0.0
        self._evaluation_s = self._saving_s = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._step, self._step_began_s = 0, began_s
        self._reading: Reading | None = None
        self._share = self._share_taken = self._share_before = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds the run has taken, those between its processes left out."""
        return self._earlier_s + self._clock() - self._began_s

    def begin(self, step: int) -> None:
        """Step `step` (from 1) is the next."""
        self._step, self._step_began_s = step, self._clock()
        if self._reading is None:
            self._read()

    def took(self) -> None:
        """The step was taken."""
        step_s = self._clock() - self._step_began_s
        self._recent.append(step_s)
        self._stepping_s += step_s
        self._read()
        self._share_before, self._share_taken = self._share_taken, self._share

    def paused(self, *, evaluation_s: float = 0.0, saving_s: float = 0.0) -> None:
        """An evaluation or a checkpoint took so long."""
        self._evaluation_s = max(self._evaluation_s, evaluation_s)
        self._saving_s = max(self._saving_s, saving_s)

    @property
    def steps(self) -> int | None:
        """Nobody knows."""
        return None

    @property
    def before(self) -> float:
        """Share of the run that was over at the last reading."""
        return min(self._share, 1 - 1e-9)

    @property
    def total(self) -> float:
        """Steps of the whole run at the pace so far, if this step takes as long as the longest of the last."""
        share = self._share_after(self._held().step_s)
        return max(self._step, self._step / max(share, 1e-9) - 1)

    def evaluates(self, every: int | None) -> bool:
        """Each `every`th step, or each fifth of the run; and early once, to learn what it takes.

        Not where no step could follow it: the time is rather for steps, and the last evaluation is near.
        """
        marks = [FIRST_LOOK]
        if every is None:
            marks += [number / EVALUATIONS for number in range(1, EVALUATIONS)]
        is_due = (every is not None and self._step % every == 0) or self._passed(marks)
        return is_due and not self.is_last(evaluates=True, saves=False)

    def rehearses(self) -> bool:
        """At the first look."""
        return self._passed([FIRST_LOOK])

    def saves(self, every: int) -> bool:
        """Each `every`th step; and early once, to learn what it takes."""
        return self._step % every == 0 or self._passed([FIRST_LOOK])

    def is_last(self, *, evaluates: bool, saves: bool) -> bool:
        """Whether what follows (evaluation, checkpoint), another step and the run's end would take too long."""
        held = self._held()
        return held.evaluation_s * evaluates + held.saving_s * saves + held.step_s > self._left_s()

    def is_over(self) -> bool:
        """Whether there is no time for the step that begins; the first has it always."""
        return self._step > 1 and self._held().step_s > self._left_s()

    def to_json(self) -> dict[str, Any]:
        """What the next process of this run has to know."""
        return {
            "spent_s": self.spent_s,
            "stepping_s": self._stepping_s,
            "evaluation_s": self._evaluation_s,
            "saving_s": self._saving_s,
            "recent": list(self._recent),
            "share": self._share_taken,
        }

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from `to_json` of an earlier process."""
        self.spent_before(values["spent_s"])
        self._stepping_s = values["stepping_s"]
        self._evaluation_s, self._saving_s = values["evaluation_s"], values["saving_s"]
        self._recent.extend(values["recent"])
        self._share_taken = values["share"]

    def spent_before(self, spent_s: float) -> None:
        """Earlier processes took at least so long: work that a kill lost is done again, its time is not free."""
        self._earlier_s = max(self._earlier_s, spent_s)

    @property
    def left_s(self) -> float | None:
        """Seconds to the end of the run."""
        return max(0.0, self.budget_s - self.spent_s)

    def result(self) -> dict[str, float]:
        """The budget, and how much of it was spent."""
        return {"budget_s": self.budget_s, "spent_s": round(self.spent_s, 1)}

    def _read(self) -> None:
        longest_s = max(self._recent, default=0.0)
        here = Reading(self.spent_s, self._stepping_s, longest_s, self._evaluation_s, self._saving_s)
        self._reading = Reading(*self._agree(here))
        self._share = self._share_after(0.0)

    def _held(self) -> Reading:
        assert self._reading is not None, "begin comes first"
        return self._reading

    def _left_s(self) -> float:
        """What is left for steps, without the last evaluation, checkpoint and model, which is smaller than one."""
        held = self._held()
        return self.budget_s - held.spent_s - held.evaluation_s - 2 * held.saving_s

    def _share_after(self, step_s: float) -> float:
        """Share of the run that is over once so much more time in steps is."""
        stepping_s, left_s = self._held().stepping_s + step_s, self._left_s() - step_s
        return stepping_s / (stepping_s + max(left_s, 0.0)) if stepping_s > 0 else 0.0

    def _passed(self, marks: list[float]) -> bool:
        return any(self._share_before < mark <= self._share for mark in marks)


def course_of(
    train: TrainRecipe,
    steps: int | None,
    *,
    began_s: float,
    agree: Callable[[Reading], Reading] = lambda own: own,
) -> BySteps:
    """The course a recipe asks for: so many steps, or its budget where they are None.

    Args:
        agree: see `ByClock`.
    """
    if steps is not None:
        return BySteps(steps)
    assert train.budget is not None
    return ByClock(train.budget, began_s=began_s, agree=agree)
