"""The keys `task` and `data` of every recipe that reads labelled rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

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
    max_length: int = Field(default=128, ge=4)
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

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: list[str] | None) -> list[str] | None:
        twice = [label for label, count in Counter(labels or ()).items() if count > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is listed twice")
        return labels

    @model_validator(mode="after")
    def _has_the_metric(self) -> Self:
        allowed = METRICS.get(self.kind, ())
        if self.metric is not None and allowed and self.metric not in allowed:
            raise ValueError(f"metric '{self.metric}' is none of {self.kind}'s: {', '.join(allowed)}")
        return self


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


METRICS = {"classify": ("accuracy", "macro_f1"), "pair": ("accuracy", "macro_f1"), "tag": ("f1",)}


def with_dataset(values: Any) -> Any:
    """A recipe's values with a data set's name resolved, for a `mode="before"` validator: so that the recipe a run
    writes down says what was done, and does it again.

    Args:
        values: the recipe as given; `task` may be one word. What is given wins over the data set's own values.
    """
    if not isinstance(values, Mapping):
        return values
    given = values.get("task")
    task = {"kind": given} if isinstance(given, str) else given
    if not isinstance(task, Mapping):
        return values
    known = DATASETS.get(str(task.get("kind")), {})
    for_task = {key: value for key, value in known.items() if key in TaskRecipe.model_fields}
    for_data = {key: value for key, value in known.items() if key in DataRecipe.model_fields}
    data = values.get("data")
    resolved = {**values, "task": {**for_task, **task, **({"kind": known["kind"]} if known else {})}}
    return {**resolved, "data": {**for_data, **data}} if isinstance(data, Mapping) else resolved
