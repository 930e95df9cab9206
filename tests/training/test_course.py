"""The clock against a clock that the test winds: a budget is kept, used up, and shared by a run's processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fenghuo.training.course import EVALUATIONS, ByClock, BySteps, Reading, course_of
from fenghuo.training.recipe import ScheduleRecipe, TrainRecipe
from fenghuo.training.schedule import rate_at


@dataclass
class Run:
    """A session's way with a course, where time passes by `wait` alone."""

    course: BySteps
    wait: Callable[[float], None]
    step_s: Callable[[int], float]
    evaluation_s: float = 0.0
    saving_s: float = 0.0
    save_every: int = 10_000
    every: int | None = None
    done: int = 0
    evaluated: list[int] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def go(self, at_most: int = 100_000) -> bool:
        """Whether it came to its end."""
        for _ in range(at_most):
            self.course.begin(self.done + 1)
            if self.course.is_over():
                return True
            self.totals.append(self.course.total)
            self.shares.append(self.course.before)
            self.done += 1
            self.wait(self.step_s(self.done))
            self.course.took()
            saves, due = self.course.saves(self.save_every), self.course.evaluates(self.every)
            last = self.course.is_last(evaluates=due, saves=saves)
            if due or last:
                self.evaluated.append(self.done)
                self.wait(self.evaluation_s)
                self.course.paused(evaluation_s=self.evaluation_s)
            if saves or last:
                self.wait(self.saving_s)
                self.course.paused(saving_s=self.saving_s)
            if last:
                return True
        return False


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


def on_clock(budget_s: float, clock: Clock, **values: object) -> Run:
    return Run(ByClock(budget_s, began_s=clock(), clock=clock), clock.wait, **values)  # type: ignore[arg-type]


@given(
    st.floats(0.05, 2.0),
    st.floats(0.0, 0.9),
    st.floats(0.0, 10.0),
    st.floats(0.0, 3.0),
    st.sampled_from([None, 7, 50]),
)
def test_a_budget_is_kept_and_used_up(
    step_s: float, spread: float, evaluation_s: float, saving_s: float, every: int | None
) -> None:
    """Steps of uneven length, evaluations and checkpoints: all is over at the end of the budget, or a little before."""
    draw, clock = np.random.default_rng(0), Clock()
    run = on_clock(
        200.0,
        clock,
        step_s=lambda number: step_s * (1 + spread * draw.uniform(-1, 1)),
        evaluation_s=evaluation_s,
        saving_s=saving_s,
        save_every=30,
        every=every,
    )
    assert run.go()
    clock.wait(saving_s)  # the model
    longest_s = step_s * (1 + spread)
    assert 1200.0 - 2 * longest_s - evaluation_s - 2 * saving_s <= clock() <= 1200.0 + longest_s * spread * 2
    assert run.evaluated[-1] == run.done


def test_the_schedule_ends_with_the_last_step() -> None:
    clock = Clock()
    run = on_clock(100.0, clock, step_s=lambda number: 0.1, evaluation_s=2.0, saving_s=1.0)
    clock.wait(5.0)  # start-up counts
    assert run.go()
    recipe = ScheduleRecipe(warmup=0.1)
    rates = [rate_at(step, total, recipe) for step, total in enumerate(run.totals, start=1)]
    assert 0 < rates[-1] < 0.005
    assert max(rates) > 0.98
    assert rates.index(max(rates)) / len(rates) == pytest.approx(0.1, abs=0.02)
    assert run.shares == sorted(run.shares)
    # Warm-up by a number of steps reaches the peak at that step.
    rates = [
        rate_at(step, total, ScheduleRecipe(warmup=50)) for step, total in enumerate(run.totals, start=1)
    ]
    assert rates.index(max(rates)) == 49
    assert rates[-1] < 0.005


def test_an_evaluation_that_leaves_no_time_for_steps_does_not_end_the_schedule() -> None:
    clock = Clock()
    run = on_clock(100.0, clock, step_s=lambda number: 0.1, evaluation_s=13.0)
    assert run.go()
    assert clock() > 1099.0
    rates = [rate_at(step, total, ScheduleRecipe()) for step, total in enumerate(run.totals, start=1)]
    assert rates[-1] < 0.01 * max(rates)
    assert len(run.evaluated) == EVALUATIONS


def test_it_evaluates_early_once_and_then_five_times() -> None:
    clock = Clock()
    run = on_clock(100.0, clock, step_s=lambda number: 0.1, evaluation_s=1.0)
    run.go()
    assert len(run.evaluated) == EVALUATIONS + 1
    assert run.evaluated[0] == pytest.approx(0.05 * run.done, rel=0.1)
    known = Run(BySteps(103), clock.wait, step_s=lambda number: 0.1)
    assert known.go()
    assert known.evaluated == [20, 40, 60, 80, 100, 103]
    assert known.shares[50] == 50 / 103


def test_a_resumed_run_has_what_is_left() -> None:
    """Killed three times, with work lost each time that was already written down elsewhere."""
    clock, spent_s, saved, evaluated = Clock(), 0.0, None, []
    for _ in range(4):
        run = on_clock(60.0, clock, step_s=lambda number: 0.2, evaluation_s=1.0, saving_s=0.5)
        if saved is not None:
            done, values = saved
            run.done = done
            run.course.restore(values)
            run.course.spent_before(spent_s)
        clock.wait(2.0)
        over = run.go(at_most=80)
        evaluated += run.evaluated
        spent_s, saved = run.course.spent_s, (run.done - 20, run.course.to_json())  # type: ignore[attr-defined]
        clock.wait(500.0)  # nobody works
        if over:
            break
    assert over
    assert 56.0 <= spent_s <= 60.0
    assert len(evaluated) == EVALUATIONS + 1


def test_a_budget_that_the_start_used_up_still_takes_one_step_and_a_later_process_none() -> None:
    clock = Clock()
    run = on_clock(5.0, clock, step_s=lambda number: 1.0)
    clock.wait(6.0)
    assert run.go()
    assert run.done == 1
    again = on_clock(5.0, clock, step_s=lambda number: 1.0, done=1)
    again.course.restore(run.course.to_json())
    assert again.go()
    assert again.done == 1


def test_processes_go_by_one_reading() -> None:
    """Rank 1's clock is five times as fast; it hears rank 0's readings, and decides the same after every step."""
    told: list[Reading] = []
    clocks = Clock(), Clock()
    ranks = [
        ByClock(20.0, began_s=1000.0, clock=clocks[0], agree=lambda reading: told.append(reading) or reading),
        ByClock(20.0, began_s=1000.0, clock=clocks[1], agree=lambda reading: told[-1]),
    ]
    for step in range(1, 500):
        seen = []
        for rank, (course, clock) in enumerate(zip(ranks, clocks, strict=True)):
            course.begin(step)
            clock.wait(0.1 if rank == 0 else 0.5)
            course.took()
            seen.append((course.total, course.before, course.evaluates(None), course.saves(100)))
            seen[-1] += (course.is_last(evaluates=False, saves=False),)
        assert seen[0] == seen[1]
        if seen[0][-1]:
            break
    assert step == pytest.approx(199, abs=2)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("2h", 7200),
        ("30m", 1800),
        ("90s", 90),
        ("1h30m", 5400),
        ("1d12h", 129600),
        ("45", 45),
        (8.5, 8.5),
        ("1.5h", 5400),
    ],
)
def test_a_budget_is_written_as_people_write_time(given: object, seconds: float) -> None:
    train = TrainRecipe(budget=given)  # type: ignore[arg-type]
    assert train.budget == seconds
    course = course_of(train, train.total_steps(10), began_s=0.0)
    assert isinstance(course, ByClock)
    assert course.steps is None


@pytest.mark.parametrize("given", ["2x", "", "h", "1h2", "-3s", "1..5h", 0])
def test_what_is_no_time_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        TrainRecipe(budget=given)  # type: ignore[arg-type]
