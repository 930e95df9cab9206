"""What both distillation stages are made of: student and projections as one module, a loader, a session."""

from __future__ import annotations

from typing import Any

from torch import nn

from fenghuo.compress.match import ImitateInside, paired_states
from fenghuo.compress.recipe import DistillRecipe
from fenghuo.corpus.loader import Cursor, Loader, Source
from fenghuo.errors import ModelError
from fenghuo.net.model import Model
from fenghuo.net.projection import Projections
from fenghuo.rundir import RunDir
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.training.loop import Learner
from fenghuo.training.session import Session, iterate_from


def inside(recipe: DistillRecipe, teacher: Model, student: Model) -> tuple[nn.Module, ImitateInside]:
    """Student and projections as one trained module, and their learner."""
    states = paired_states(recipe.match, student=student.config.layers, teacher=teacher.config.layers)
    projections = Projections(len(states), student.config.width, teacher.config.width, seed=recipe.train.seed)
    pair = nn.ModuleDict({"student": student, "projections": projections})
    return pair, ImitateInside(teacher, student, projections, recipe.match)


def loader_of(recipe: DistillRecipe, source: Source, data_side: Any) -> Loader:
    return Loader(
        source,
        data_side,
        seed=recipe.train.seed,
        pieces=recipe.batch.pieces,
        rows=recipe.batch.rows,
        micro_pieces=recipe.batch.micro_pieces,
        window=recipe.batch.window,
    )


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


def same_pieces(one: Tokenizer, other: Tokenizer, of: str) -> None:
    if one.fingerprint != other.fingerprint:
        raise ModelError(
            f"{of} and the teacher have different tokenizers ({one.fingerprint[:12]} and {other.fingerprint[:12]}); "
            "states are compared piece by piece, so both must cut text alike"
        )
