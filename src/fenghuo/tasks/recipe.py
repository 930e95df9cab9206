"""The keys `task` and `data` of every recipe that reads labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from fenghuo.config import Recipe
from fenghuo.errors import did_you_mean
from fenghuo.tasks import TASKS

DATASETS: dict[str, dict[str, Any]] = {
    "chnsenticorp": {"kind": "classify", "text": "text_a", "max_length": 256},
    "lcqmc": {"kind": "pair", "columns": ["text", "text_pair", "label"]},
    "afqmc": {"kind": "pair", "columns": ["text", "text_pair", "label"]},
    "peopledaily": {"kind": "tag", "format": "conll"},
    "ocnli": {"kind": "pair", "text": "sentence1", "text_pair": "sentence2", "skip_label": "-"},
}
"""Published data sets: how their files are laid out. A name stands for these values; given keys win."""


class TaskRecipe(Recipe):
    """What is asked about a text. A data set's name (`task: chnsenticorp`) stands for its values."""

    kind: str
    """classify (one text), pair (two texts) or tag (entities); or a data set's name."""
    labels: list[str] | None = None
    """Labels in their order; absent: those of the training rows, sorted."""
    max_length: int = Field(default=128, ge=3)
    """Longest input in pieces, special pieces counted. Tagging cuts longer texts into windows."""
    metric: Literal["accuracy", "macro_f1", "f1"] | None = None
    """What decides the best checkpoint; absent: accuracy for classes, entity f1 for tags."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        known = [*TASKS, *DATASETS]
        if kind not in known:
            raise ValueError(f"unknown task '{kind}'.{did_you_mean(kind, known)} Known: {', '.join(known)}")
        return kind


class DataRecipe(Recipe):
    """Labelled rows in files, and how to read them."""

    train: Path | None = None
    """Rows to learn from."""
    dev: Path | None = None
    """Rows that choose the best checkpoint and end training early."""
    test: Path | None = None
    """Rows scored once, with the best checkpoint."""
    format: Literal["auto", "tsv", "csv", "jsonl", "conll"] = "auto"
    """auto goes by the file's name; conll is `character TAG` lines with blank lines between sentences."""
    text: str = "text"
    """Column (or JSON key) of the text."""
    text_pair: str = "text_pair"
    """Column of the second text of a pair."""
    label: str = "label"
    """Column of the label."""
    columns: list[str] | None = None
    """Names of the columns, for files without a header."""
    skip_label: str | None = None
    """Rows with this label are left out (OCNLI's `-`)."""


def with_dataset(task: TaskRecipe, data: DataRecipe) -> tuple[TaskRecipe, DataRecipe]:
    """Put a data set's values where the recipe left the defaults."""
    values = DATASETS.get(task.kind)
    if values is None:
        return task, data
    for_task = {k: v for k, v in values.items() if k in ("max_length",) and k not in task.model_fields_set}
    for_data = {
        k: v for k, v in values.items() if k in DataRecipe.model_fields and k not in data.model_fields_set
    }
    return (
        task.model_copy(update={"kind": values["kind"], **for_task}),
        data.model_copy(update=for_data),
    )
