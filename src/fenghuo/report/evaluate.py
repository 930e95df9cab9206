"""`fenghuo evaluate`: a model against labelled rows, through the very answers that `predict` and `serve` give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fenghuo.config import build_recipe
from fenghuo.errors import DataError, ModelError
from fenghuo.serve.predictor import load_predictor
from fenghuo.tasks.read_data import Row, read_rows
from fenghuo.tasks.recipe import DataRecipe, TaskRecipe, with_dataset
from fenghuo.tasks.scores import class_scores, entity_scores


def evaluate(
    model: Path, data: Path, task: str | None = None, layout: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Score a folder's fastest model (int8, then ONNX, then torch) on a file.

    Args:
        model: model folder or run folder.
        data: labelled rows.
        task: a kind or a data set's name, where the file's layout is not the usual one; by default the folder's
            own kind.
        layout: how the file is read, by the keys of a recipe's `data` (`text`, `label`, `columns`, …); wins over the
            data set's.

    Returns:
        `{"task", "examples", "metrics": {name: value}}`, values 0 … 1.

    Raises:
        ModelError: no model, or one of another kind than `task`.
        DataError: unreadable rows, or labels that the model does not know.
    """
    predictor = load_predictor(model)
    kind = predictor.task.kind
    values = with_dataset({"task": task or kind, "data": layout or {}})
    if (asked := build_recipe(TaskRecipe, values["task"], "--task").kind) != kind:
        raise ModelError(f"{model}: this model answers '{kind}', not '{asked}'")
    rows = read_rows(data, build_recipe(DataRecipe, values["data"], "--data"), kind=kind)
    answers = predictor(_questions(rows))
    if kind == "tag":
        gold = [row.entities or () for row in rows]
        _refuse_strange(data, {label for spans in gold for *_, label in spans}, _kinds(predictor.task.labels))
        metrics = entity_scores(gold, [_spans(answer) for answer in answers])
    else:
        labels = [row.label or "" for row in rows]
        _refuse_strange(data, set(labels), predictor.task.labels)
        metrics = class_scores(labels, [answer["label"] for answer in answers])
    return {"task": task or kind, "examples": len(rows), "metrics": metrics}


def _refuse_strange(data: Path, found: set[str], known: Sequence[str]) -> None:
    if strange := sorted(found - set(known)):
        raise DataError(f"{data}: label '{strange[0]}' is none of the model's ({', '.join(known)})")


def _kinds(tags: Sequence[str]) -> list[str]:
    """`B-PER`, `I-PER`, `O` → `PER`."""
    return list(dict.fromkeys(tag[2:] for tag in tags if tag != "O"))


def _questions(rows: list[Row]) -> list[dict[str, str]]:
    return [
        {"text": row.text} if row.text_pair is None else {"text": row.text, "text_pair": row.text_pair}
        for row in rows
    ]


def _spans(answer: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(span["start"], span["end"], span["label"]) for span in answer["entities"]]
