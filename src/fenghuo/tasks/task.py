"""The contract of a task: labelled row → question; logits → answer, score."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.errors import DataError
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.tasks import TASKS
from fenghuo.tasks.read_data import Row
from fenghuo.tasks.recipe import TaskRecipe
from fenghuo.text.tokenizer import Tokenizer

Arrays = dict[str, NDArray[Any]]
Answer = Any
"""A label for classes, spans (start, end, label) for tags."""
_WHOLE = re.compile("-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class TaskExample:
    """One framed input. A long row to tag makes several, one a window."""

    row: int
    pieces: NDArray[np.int64]
    segments: NDArray[np.int64]
    labels: NDArray[np.int64]
    """() for classes; (n,) for tags, -100 where nothing is asked."""


class TaskSource:
    """Examples as the loader wants them."""

    def __init__(self, examples: Sequence[TaskExample]) -> None:
        self.examples = examples
        self.lengths = np.array([len(example.pieces) for example in examples], dtype=np.int32)
        self.pieces = int(self.lengths.sum())

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> TaskExample:
        return self.examples[index]


class Task(Protocol):
    """One kind of labelled question. `labels` decides the order of the logits."""

    kind: str
    citation: str
    metric: str
    labels: tuple[str, ...]
    max_length: int

    def heads(self) -> HeadsConfig:
        """The head this task needs."""
        ...

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[TaskExample]:
        """Framed inputs; labels are 0 where a row has none.

        Raises:
            DataError: a label that is not among `labels`, with its place.
        """
        ...

    def asked(self, model: Model, batch: Mapping[str, Tensor]) -> Tensor:
        """(N, C) logits of the N asked things: sequences, or pieces that carry a tag."""
        ...

    def answers(
        self,
        rows: Sequence[Row],
        examples: Sequence[TaskExample],
        logits: Sequence[NDArray[Any]],
        tokenizer: Tokenizer,
    ) -> list[Answer]:
        """One answer a row from the asked logits of each example."""
        ...

    def gold(self, row: Row) -> Answer:
        """The right answer of a labelled row."""
        ...

    def score(self, gold: Sequence[Answer], given: Sequence[Answer]) -> dict[str, float]:
        """Figures, each 0 … 1; `metric` is one of them."""
        ...


def prepare(example: TaskExample, rng: np.random.Generator) -> Arrays:
    """Loader's data side of every task: nothing is drawn."""
    return {"pieces": example.pieces, "segments": example.segments, "labels": example.labels}


def asked_labels(batch: Mapping[str, Any]) -> Any:
    """(N,) labels of the asked things, as an array or tensor; the order is that of `Task.asked`."""
    labels = batch["labels"]
    return labels[labels != -100]


def label_set(recipe: TaskRecipe, found: set[str], *, place: str) -> tuple[str, ...]:
    """The recipe's labels, or those found, in numeric order where all are whole numbers, else sorted.

    Raises:
        DataError: a label in the data that the recipe does not list, or fewer than two labels.
    """
    if recipe.labels is not None:
        if strange := sorted(found - set(recipe.labels)):
            raise DataError(
                f"{place}: label '{strange[0]}' is not among task.labels ({', '.join(recipe.labels)})"
            )
        return tuple(recipe.labels)
    if len(found) < 2:
        raise DataError(
            f"{place}: only the label {sorted(found)} occurs; at least two are needed to tell apart"
        )
    whole = all(_WHOLE.fullmatch(label) for label in found)
    return tuple(sorted(sorted(found), key=int) if whole else sorted(found))  # "1" and "01" have an order too


def build_task(recipe: TaskRecipe, labels: Sequence[str]) -> Task:
    """The task a recipe names, with these labels in this order."""
    home, _, name = TASKS[recipe.kind].partition(":")
    task: Task = getattr(import_module(home), name)(
        labels=tuple(labels), max_length=recipe.max_length, chosen_metric=recipe.metric
    )
    return task


def task_from_rows(recipe: TaskRecipe, rows: Sequence[Row], *, place: str) -> Task:
    """A task whose labels are those of the training rows (or the recipe's)."""
    if recipe.kind == "tag":
        found = {label for row in rows for _, _, label in row.entities or ()}
        kinds = recipe.labels or sorted(found)
        if not kinds:
            raise DataError(f"{place}: no entity in any row")
        labels = ["O", *(f"{mark}-{kind}" for kind in kinds for mark in "BI")]
    else:
        labels = list(label_set(recipe, {row.label for row in rows if row.label is not None}, place=place))
    return build_task(recipe, labels)


def task_block(task: Task) -> dict[str, Any]:
    """What a model folder remembers of its task (`fenghuo.task` in config.json)."""
    return {
        "kind": task.kind,
        "labels": list(task.labels),
        "metric": task.metric,
        "max_length": task.max_length,
    }


def task_from_block(block: Mapping[str, Any]) -> Task:
    """The inverse of `task_block`."""
    recipe = TaskRecipe(kind=block["kind"], max_length=block["max_length"], metric=block["metric"])
    return build_task(recipe, block["labels"])
