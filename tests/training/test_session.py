"""What a session shows its body, and what it ends with."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fenghuo import progress
from fenghuo.config import Recipe
from fenghuo.errors import DamagedError
from fenghuo.rundir import RunDir
from fenghuo.training.course import ByClock, BySteps, course_of
from fenghuo.training.lookahead import Lookahead
from fenghuo.training.loop import Terms
from fenghuo.training.recipe import LookaheadRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from fenghuo.training.session import Session


class Nothing(Recipe):
    """A recipe without keys."""


class Squares:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def counts(self, batch: Mapping[str, Any]) -> dict[str, float]:
        return {"squares": float(len(batch["x"]))}

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        return Terms({"squares": (self.model(batch["x"]) - 1).square().sum()})


def batches(cursor: tuple[int, ...]) -> Iterator[Any]:
    number = cursor[1]
    while True:
        draw = np.random.default_rng(number)
        number += 1
        yield (0, number), [{"x": draw.normal(size=(8, 3)).astype("float32"), "pieces": np.zeros(8)}]


def session_in(folder: Path, steps: int = 13, precision: str = "fp32", **values: Any) -> Session:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    train = TrainRecipe(steps=steps, save_every=4, log_every=1, precision=precision)
    course = course_of(train, train.total_steps(1), began_s=0.0)
    given: dict[str, Any] = {"iterate": batches, "course": course, "train": train}
    return Session(
        RunDir.open(folder, verb="test", recipe=Nothing()),
        model,
        learner=Squares(model),
        optimizer=OptimizerRecipe(learning_rate=0.05, lookahead=LookaheadRecipe(steps=5)),
        schedule=ScheduleRecipe(name="constant", warmup=0),
        label="test",
        **(given | values),
    )


def go(session: Session) -> Session:
    """To its end; the folder is free afterwards."""
    for _ in session:
        pass
    session.run.close()
    return session


def test_an_evaluation_sees_what_the_run_would_end_with(tmp_path: Path) -> None:
    """After 8 steps, three after a move of the slow weights: the same weights as a run of 8 steps ends with."""
    short = go(session_in(tmp_path / "short", steps=8))
    long = session_in(tmp_path / "long", evaluate_every=8)
    seen = {}
    for step in long:
        if long.due:
            seen[step.number] = long.model.weight.detach().clone()  # type: ignore[union-attr]
            long.judge(float(-step.number), {"score": 1.0}, patience=None)
    assert list(seen) == [8, 13]
    assert torch.equal(seen[8], short.model.weight)  # type: ignore[arg-type]
    assert torch.equal(seen[13], long.model.weight)  # type: ignore[arg-type]
    assert isinstance(long.optimizer, Lookahead)
    assert long.optimizer.since == 0
    assert not torch.equal(seen[8], seen[13])
    long.restore_best()
    assert torch.equal(long.model.weight, seen[8])  # type: ignore[arg-type]


def test_evaluating_does_not_change_the_course(tmp_path: Path) -> None:
    often, once = (
        go(session_in(tmp_path / f"every-{every}", evaluate_every=every)).model.state_dict()
        for every in (1, 13)
    )
    assert all(torch.equal(often[name], once[name]) for name in often)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_session_left_between_two_moves_goes_on_in_the_same_bits(tmp_path: Path, precision: str) -> None:
    whole = go(session_in(tmp_path / "whole", precision=precision))
    left = session_in(tmp_path / "left", precision=precision)
    for step in left:
        if step.number == 9:  # the checkpoint is that of step 8
            break
    left.run.close()
    again = session_in(tmp_path / "left", precision=precision)
    assert again.done == 8
    go(again)
    assert torch.equal(again.model.weight, whole.model.weight)  # type: ignore[arg-type]
    assert again.run.metrics()[-1].keys() == whole.run.metrics()[-1].keys()
    if precision == "fp16":
        assert again.scaler is not None
        assert whole.scaler is not None
        assert again.scaler.state_dict() == whole.scaler.state_dict()
        assert {"train/loss_scale", "train/skipped"} <= whole.run.metrics()[-1].keys()


def test_a_finished_session_takes_no_further_step(tmp_path: Path) -> None:
    go(session_in(tmp_path / "run"))
    again = session_in(tmp_path / "run")
    assert isinstance(again.course, BySteps)
    assert list(again) == []
    assert again.done == 13


def test_where_no_checkpoint_can_be_read_nothing_is_begun_anew(tmp_path: Path) -> None:
    left = session_in(tmp_path)
    for step in left:
        if step.number == 10:
            break
    left.run.close()
    files = [left.checkpoints / f"step-{number}" / "state.json" for number in (4, 8)]
    contents = [file.read_bytes() for file in files]
    for file in files:
        file.write_bytes(b"{}")
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(DamagedError, match=r"(?s)step-8.*step-4.*put back a copy of one, or .* --overwrite"):
        session_in(tmp_path)
    gc.collect()  # lets go of the folder
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    files[0].write_bytes(contents[0])
    assert session_in(tmp_path).done == 4


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


START_S = 3.0


def on_clock(folder: Path, clock: Clock, budget_s: float) -> Session:
    """A process of a run with a budget, whose start takes `START_S` and each step a second."""

    def timed(cursor: tuple[int, ...]) -> Iterator[Any]:
        for batch in batches(cursor):
            clock.now_s += 1.0
            yield batch

    course = ByClock(budget_s, began_s=clock(), clock=clock)
    clock.now_s += START_S
    train = TrainRecipe(budget=budget_s, save_every=10_000, log_every=10_000)
    return session_in(folder, course=course, train=train, iterate=timed)


@pytest.mark.parametrize("saved", [False, True])
def test_a_budget_counts_the_time_that_kills_lost(tmp_path: Path, saved: bool) -> None:
    """Four kills before the first checkpoint, or after it, with no line of metrics.jsonl between them."""
    clock, budget_s = Clock(), 200.0
    worked_s, steps = 0.0, 0
    for _ in range(4):
        session = on_clock(tmp_path, clock, budget_s)
        for step in session:
            steps += 1
            if step.number == (15 if saved else 4):  # the first checkpoint comes at 5 %, after ten steps
                break
        assert (session.checkpoints.exists(), session.run.metrics()) == (saved, [])
        worked_s += clock() - session.course._began_s  # type: ignore[attr-defined]
        session.run.close()
        clock.now_s += 500.0  # nobody works
    last = on_clock(tmp_path, clock, budget_s)
    worked_s += START_S
    assert last.course.spent_s == pytest.approx(worked_s)  # type: ignore[attr-defined]
    steps += sum(1 for _ in last)
    assert budget_s - 2 <= steps + 5 * START_S <= budget_s
    assert budget_s - 2 <= last.result()["spent_s"] <= budget_s


def test_under_a_budget_the_time_left_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    go(on_clock(tmp_path, Clock(), 60.0))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("test: ")]
    assert lines[1].startswith("test: 1 ")
    assert ", 0:00:56 left, loss" in lines[1]
    assert ", 0:00:46 left, loss" in lines[11]
