"""What both distillation stages are made of: student and projections as one module, and a session."""

from __future__ import annotations

import time

from torch import nn

from fenghuo.compress.match import ImitateInside, paired_states
from fenghuo.compress.recipe import DistillRecipe
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.visits import Cursor
from fenghuo.net.model import Model
from fenghuo.net.projection import Projections
from fenghuo.rundir import RunDir
from fenghuo.training.course import course_of
from fenghuo.training.loop import Learner
from fenghuo.training.session import Session, iterate_from
from fenghuo.training.world import alone


def inside(recipe: DistillRecipe, teacher: Model, student: Model) -> tuple[nn.Module, ImitateInside]:
    """Student and projections as one trained module, and their learner."""
    states = paired_states(recipe.match, student=student.config.layers, teacher=teacher.config.layers)
    projections = Projections(len(states), student.config.width, teacher.config.width, seed=recipe.train.seed)
    pair = nn.ModuleDict({"student": student, "projections": projections})
    return pair, ImitateInside(teacher, student, projections, recipe.match)


def session_of(
    recipe: DistillRecipe,
    run: RunDir,
    model: nn.Module,
    learner: Learner,
    loader: Loader,
    *,
    label: str,
    first: int = 0,
    intermediate: bool = False,
    evaluate_every: int | None = None,
) -> Session:
    """The session of one phase, as the recipe has it.

    Args:
        first: steps of the phase before.
        intermediate: stage 1 of task distillation, whose length and rates are values of `intermediate`.
        evaluate_every: see `Session`.
    """
    train, optimizer, schedule, folder = recipe.train, recipe.optimizer, recipe.schedule, ""
    if intermediate:
        assert recipe.intermediate is not None
        train = train.model_copy(
            update={
                "steps": recipe.intermediate.steps,
                "epochs": recipe.intermediate.epochs,
                "budget": None,
            }
        )
        optimizer = optimizer.model_copy(update={"learning_rate": recipe.intermediate.learning_rate})
        schedule, folder = recipe.intermediate.schedule, "inside"
    return Session(
        run,
        model,
        learner=learner,
        iterate=iterate_from(loader.iterate, Cursor),
        # A budget is that of the second stage where there are two.
        course=course_of(
            train,
            train.total_steps(loader.batches_per_epoch()),
            began_s=time.monotonic() if first else run.began_s,
        ),
        optimizer=optimizer,
        schedule=schedule,
        train=train,
        label=label,
        evaluate_every=evaluate_every,
        folder=folder,
        first=first,
        world=alone(train.device),
    )
