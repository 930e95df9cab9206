"""What both distillation stages are made of: student and projections as one module, and a session."""

from __future__ import annotations

from torch import nn

from fenghuo.compress.match import ImitateInside, paired_states
from fenghuo.compress.recipe import DistillRecipe
from fenghuo.corpus.loader import Cursor, Loader
from fenghuo.net.model import Model
from fenghuo.net.projection import Projections
from fenghuo.rundir import RunDir
from fenghuo.training.loop import Learner
from fenghuo.training.session import Session, iterate_from


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
) -> Session:
    """The session of one phase, as the recipe has it.

    Args:
        first: steps of the phase before.
        intermediate: stage 1 of task distillation, whose length and rates are values of `intermediate`.
    """
    train, optimizer, schedule, folder = recipe.train, recipe.optimizer, recipe.schedule, ""
    if intermediate:
        assert recipe.intermediate is not None
        train = train.model_copy(
            update={"steps": recipe.intermediate.steps, "epochs": recipe.intermediate.epochs}
        )
        optimizer = optimizer.model_copy(update={"learning_rate": recipe.intermediate.learning_rate})
        schedule, folder = recipe.intermediate.schedule, "inside"
    return Session(
        run,
        model,
        learner=learner,
        iterate=iterate_from(loader.iterate, Cursor),
        total=train.total_steps(loader.batches_per_epoch()),
        optimizer=optimizer,
        schedule=schedule,
        train=train,
        label=label,
        folder=folder,
        first=first,
    )
