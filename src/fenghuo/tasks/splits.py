"""Train, dev and test of one task, read and framed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fenghuo.tasks.read_data import Row, read_rows
from fenghuo.tasks.recipe import DataRecipe
from fenghuo.tasks.task import Task, TaskExample
from fenghuo.text.tokenizer import Tokenizer

Split = tuple[Sequence[Row], Sequence[TaskExample]]


@dataclass(frozen=True)
class Splits:
    """Rows and examples of each file; None where the recipe names no file."""

    data: DataRecipe
    train: Split
    dev: Split | None
    test: Split | None

    def figures(
        self, evaluate: Callable[[Sequence[Row], Sequence[TaskExample]], dict[str, float]], metric: str
    ) -> dict[str, Any]:
        """Entries for result.json: figures on dev and test, and `value`, the metric on test (or else on dev)."""
        found: dict[str, Any] = {}
        for name, split, path in (("dev", self.dev, self.data.dev), ("test", self.test, self.data.test)):
            if split is not None:
                figures = evaluate(*split)
                found |= {
                    name: figures,
                    "value": figures[metric],
                    "value_of": name,
                    "examples_file": str(path),
                }
        return found


def read_splits(task: Task, data: DataRecipe, tokenizer: Tokenizer, *, train: Sequence[Row]) -> Splits:
    """Read the dev and test files that a recipe names, and put the training rows beside them.

    Raises:
        DataError: an unreadable file, or a label the task does not know.
    """

    def split(path: Path | None) -> Split | None:
        if path is None:
            return None
        rows = read_rows(path, data, kind=task.kind)
        return rows, task.examples(rows, tokenizer)

    return Splits(data, (train, task.examples(train, tokenizer)), split(data.dev), split(data.test))
