"""A training run in a run folder: goes on where it stopped, logs, saves, keeps the best, ends on Ctrl-C without loss.

A stage iterates over its `Session` and does in the body what only it knows: evaluate, judge, break.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from fenghuo.errors import DivergedError, StoppedError
from fenghuo.progress import track
from fenghuo.rundir import RunDir, write_json
from fenghuo.training.best import Best
from fenghuo.training.course import BySteps
from fenghuo.training.loop import Arrays, Learner, Step, UntakenError, loss_scaler, steps
from fenghuo.training.modules import compile_layers, recompute_layers
from fenghuo.training.optim import build_optimizer, settle, settled
from fenghuo.training.recipe import OptimizerRecipe, ScheduleRecipe, TrainRecipe
from fenghuo.training.schedule import rate_at
from fenghuo.training.signals import StopRequest, stop_on_signals
from fenghuo.training.state import (
    Checkpoint,
    latest_checkpoint,
    pack_state,
    read_checkpoint,
    remove_unnamed,
    unpack_state,
    write_checkpoint,
)
from fenghuo.training.tally import Tally
from fenghuo.training.watch import Watch
from fenghuo.training.world import ALONE, World

Cursor = tuple[int, ...]  # of the next batch: (epoch, batch), or what a stage's own `iterate` takes
Iterate = Callable[[Cursor], Iterator[tuple[Cursor, Sequence[Arrays]]]]


def iterate_from(
    iterate: Callable[[Any], Iterator[tuple[Any, Any]]], cursor_type: Callable[[int, int], Any]
) -> Iterate:
    """A loader's `iterate` with its own cursor class, as a session stores cursors: (epoch, batch)."""

    def go(cursor: Cursor) -> Iterator[tuple[Cursor, Sequence[Arrays]]]:
        for after, batches in iterate(cursor_type(*cursor)):
            yield (after.epoch, after.batch), batches

    return go


class Session:
    """Iterating yields each `Step` after it was taken; saving happens after the body has seen it.

    Where `due` is true the body evaluates, and sees the weights that the run would end with (slow ones, where the
    optimizer keeps such); it is true of the last step in any case.
    """

    def __init__(
        self,
        run: RunDir,
        model: nn.Module,
        *,
        learner: Learner,
        iterate: Iterate,
        course: BySteps,
        optimizer: OptimizerRecipe,
        schedule: ScheduleRecipe,
        train: TrainRecipe,
        label: str,
        evaluate_every: int | None = None,
        cursor: Cursor = (0, 0),
        folder: str = "",
        first: int = 0,
        world: World = ALONE,
        describe: Callable[[Cursor], Mapping[str, Any]] | None = None,
        least_s: Callable[[Arrays], float] | None = None,
    ) -> None:
        """
        Args:
            iterate: cursor → endless (cursor after the batch, micro-batches).
            course: how long this session is.
            evaluate_every: steps between two evaluations; by default five in the session.
            cursor: where `iterate` begins.
            folder: sub-folder of the run's checkpoints, for stages with several sessions.
            first: steps of earlier sessions, so that numbers in metrics.jsonl go on.
            world: the ranks that train together; each has its own share of what `iterate` gives.
            describe: the batch that begins at a cursor, for people who look into one that was bad.
            least_s: the seconds a micro-batch would take if this rank's device did nothing but matrix products; what
                is logged as `train/share_of_peak` is a step's sum of them over its time.
        """
        self.run, self.model, self.learner, self.iterate = run, model, learner, iterate
        self.course, self.train, self.label, self.first = course, train, label, first
        self.evaluate_every = evaluate_every
        self.world, self.describe, self.least_s = world, describe, least_s
        model.to(world.device)
        self.optimizer = build_optimizer(model, optimizer)
        self.clip, self.peak, self.schedule = optimizer.clip, optimizer.learning_rate, schedule
        self.checkpoints: Path = run.checkpoints / folder if folder else run.checkpoints
        self._bests = self.checkpoints / "best"
        device = next(model.parameters()).device
        self.scaler = loss_scaler(train.precision, device)
        recompute_layers(model, train.recompute)
        if train.compile:
            compile_layers(model, device)
        self.cursor: Cursor = cursor
        self.best = Best()
        self.done = 0
        self.spent_s = 0.0
        """Seconds inside steps, over all restarts."""
        self.skipped = 0
        """Steps without effect, since their gradient overflowed in fp16."""
        self.due = False
        """Whether an evaluation follows the step."""
        self.ended = False
        """Whether no step follows."""
        self.tally = Tally(of_peak=least_s is not None)
        """Of the steps since the last line of metrics.jsonl."""
        self._stop = StopRequest()
        self._watch = Watch(train.jump)
        self._at = cursor
        """Where the batch in work begins."""
        self._least_s = 0.0
        """What it would take at the device's peak."""
        self._resume()
        run.track(train.track)

    def __iter__(self) -> Iterator[Step]:
        if self.ended or self.best.over:
            return
        course, stream = self.course, self._steps()
        with stop_on_signals() as self._stop, track(self.label, course.steps, "step") as bar:
            bar.set(self.done)
            self._note_spent()
            while not self.ended:
                course.begin(self.done + 1)
                if course.is_over():  # a budget that ran out between two processes
                    self._end()
                    return
                try:
                    step = next(stream)
                except UntakenError as problem:
                    self._give_up(problem)
                course.took()
                self._take(step)
                self._note_spent()
                saves = course.saves(self.train.save_every)
                self.due = course.evaluates(self.evaluate_every)
                self.ended = course.is_last(evaluates=self.due, saves=saves)
                if self.ended:
                    self.due = True
                    settle(self.optimizer)
                if step.number % self.train.log_every == 0 or self.ended:
                    self._log(step)
                speed = self.tally.speed(step.pieces, step.spent_s, self._least_s)
                bar.advance(1, left_s=course.left_s, loss=step.figures["loss"], **speed)
                began_s = time.monotonic()
                with settled(self.optimizer) if self.due else nullcontext():
                    yield step
                if self.due:
                    course.paused(evaluation_s=time.monotonic() - began_s)
                    self._note_spent()
                saved = saves or self.ended or self._is_asked(step)
                if saved:
                    self.save()
                if self._is_asked(step):
                    if not saved:  # it came a moment ago
                        self.save()
                    self._stop_here()

    def _is_asked(self, step: Step) -> bool:
        """A rank may not end alone: the others would wait for it. Alone, a signal counts at once."""
        return self._stop.asked if self.world.size == 1 else step.stop

    def _take(self, step: Step) -> None:
        self.done, self.cursor = step.number, step.cursor
        self.spent_s += step.spent_s
        self.skipped += step.skipped
        self.tally.add(step, self._least_s)

    def _note_spent(self) -> None:
        if (spent_s := self.course.spent_s) is not None:
            self.run.note_spent(spent_s)

    def _end(self) -> None:
        """No step follows, nor was the last one known as such."""
        self.ended = True
        settle(self.optimizer)
        self.save()

    def judge(self, score: float, figures: Mapping[str, float], *, patience: int | None) -> bool:
        """Log an evaluation, keep the weights if they are the best so far; False once patience has run out.

        Args:
            score: the figure to go by; higher is better.
            patience: evaluations without a better score after which it is over; None: never.
        """
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.run.log(f"step {self.done}: dev {told}")
        number = self.first + self.done
        self.run.metric(number, **{f"dev/{name}": value for name, value in figures.items()})
        if self.best.hear(score, self.done, figures, patience=patience):
            # Earlier ones stay until `save`: a run killed before it goes on from a checkpoint that names one of them.
            self.best.keep(self.model, self._bests)
        if self.best.over:
            self.run.log(f"no better score in {patience} evaluations: stopping early")
        return not self.best.over

    def restore_best(self) -> None:
        """Put the weights of the best evaluation back into the model.

        Raises:
            StoppedError: a signal came in the body's last turn, after which nothing iterated.
        """
        if self._stop.asked:
            self.save()
            self._stop_here()
        self.best.restore(self.model, self._bests)

    def result(self) -> dict[str, float]:
        """What result.json says of the time: that in steps, and under a budget all of it."""
        told = {"train_s": round(self.spent_s, 1), **self.course.result()}
        if self.scaler is not None:
            told["skipped_steps"] = self.skipped
        return told

    def save(self) -> None:
        """Write a checkpoint of this moment. All ranks call it, and rank 0 writes."""
        began_s = time.monotonic()
        tensors = pack_state(self.model, self.optimizer)
        if not self.world.is_first:
            return
        write_checkpoint(
            self.checkpoints,
            step=self.done,
            tensors=tensors,
            values={
                "cursor": list(self.cursor),
                "best": asdict(self.best),
                "spent_s": self.spent_s,
                "tally": self.tally.to_json(),
                "skipped": self.skipped,
                "ended": self.ended,
                "recent": self._watch.recent,
                "course": self.course.to_json(),
                "scaler": None if self.scaler is None else self.scaler.state_dict(),
            },
            keep=self.train.keep,
        )
        remove_unnamed(self._bests, self.checkpoints)
        self.course.paused(saving_s=time.monotonic() - began_s)

    def _stop_here(self) -> NoReturn:
        self.world.barrier()  # torchrun ends all ranks with the first one that ends: not while rank 0 writes
        raise StoppedError(
            f"stopped at step {self.done}{self._of()}, saved in {self.checkpoints}; "
            "the same command goes on from there"
        )

    def _give_up(self, problem: UntakenError) -> NoReturn:
        """End before a step that must not be taken, and name its batch, in words and in diverged.json."""
        self.save()
        record = {
            "step": self.first + problem.number,
            "at": list(self._at),
            "why": problem.why,
            "grad_norm": problem.grad_norm,
            "figures": problem.figures,
            **(self.describe(self._at) if self.describe else {}),
        }
        path = self.run.path / "diverged.json"
        if self.world.is_first:
            write_json(path, record)
        self.world.barrier()
        skip = json.dumps(sorted({*self.train.skip, self._at}))
        raise DivergedError(
            f"step {problem.number}: {problem.why}, from the batch at {list(self._at)}, which {path} describes; "
            f"the weights before that step are saved in {self.checkpoints}.\n"
            f"  --train.skip '{skip}' goes on from there without that batch; other settings, such as a lower "
            "learning rate, need --overwrite or another folder"
        ) from problem

    def _batches(self) -> Iterator[tuple[Cursor, Sequence[Arrays]]]:
        at, skip = self.cursor, {*self.train.skip}
        for after, micro_batches in self.iterate(at):
            if at in skip:
                self.run.log(f"the batch at {list(at)} is left out, as train.skip says")
            else:
                self._at = at
                self._least_s = sum(map(self.least_s, micro_batches)) if self.least_s else 0.0
                yield after, micro_batches
            at = after

    def _steps(self) -> Iterator[Step]:
        return steps(
            self.model,
            self._batches(),
            self.learner,
            self.optimizer,
            lambda number: self.peak * rate_at(number, self.course.total, self.schedule),
            start=self.done,
            seed=self.train.seed + self.first,
            clip=self.clip,
            precision=self.train.precision,
            scaler=self.scaler,
            world=self.world,
            stop=lambda: self._stop.asked,
            judge=self._watch.judge,
        )

    def _resume(self) -> None:
        checkpoint = self._latest()
        if checkpoint is not None:
            values = checkpoint.values
            unpack_state(checkpoint.tensors, self.model, self.optimizer)
            self.done, self.cursor = checkpoint.step, tuple(values["cursor"])
            self.best = Best(**values["best"])
            self.spent_s, self.skipped, self.ended = values["spent_s"], values["skipped"], values["ended"]
            self.tally.restore(values["tally"])
            self._watch.recent.update(values["recent"])
            if self.scaler is not None:
                self.scaler.load_state_dict(values["scaler"])
            self.course.restore(values["course"])
            self.run.log(f"{self.label}: going on after step {self.done}{self._of()}")
        self.course.spent_before(self.run.spent_s())
        if not self.ended:  # a finished session leaves the lines of the next one alone
            self.run.trim_metrics(self.first + self.done)

    def _latest(self) -> Checkpoint | None:
        """The newest whole checkpoint. Rank 0 says which, so that all ranks go on from the same."""
        found = latest_checkpoint(self.checkpoints, say=self.run.log) if self.world.is_first else None
        step = self.world.broadcast(None if found is None else found.step)
        if self.world.is_first or step is None:
            return found
        return read_checkpoint(self.checkpoints / f"step-{step}")

    def _of(self) -> str:
        return "" if self.course.steps is None else f" of {self.course.steps}"

    def _log(self, step: Step) -> None:
        told = {**self.tally.taken(), "learning_rate": step.rate, "grad_norm": step.grad_norm}
        if step.scale is not None:
            told |= {"loss_scale": step.scale, "skipped": self.skipped}
        if (spent_s := self.course.spent_s) is not None:
            told["budget_spent_s"] = spent_s
        self.run.metric(self.first + step.number, **{f"train/{name}": value for name, value in told.items()})
