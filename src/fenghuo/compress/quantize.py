"""A run → an int8 run, with what that costs in quality, and a gate."""

# Shapes: N asked sequences or pieces, C classes or tags.
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fenghuo.compress.export import FILE, QUANTIZED_FILE, copy_model, is_current, write_onnx
from fenghuo.compress.int8 import needs_reduced_range, operators, quantize
from fenghuo.compress.onnx_call import call, open_session, pad
from fenghuo.compress.recipe import QuantizeRecipe
from fenghuo.errors import GateError, ModelError, RecipeError
from fenghuo.models.card import write_card
from fenghuo.models.folder import load_model
from fenghuo.models.start import model_folder, task_block_of, weights_file
from fenghuo.net.model import Model
from fenghuo.rundir import RunDir, folder_atomic, write_atomic
from fenghuo.tasks.evaluate import asked_logits, batches_by_length, score_rows
from fenghuo.tasks.splits import Splits, read_splits
from fenghuo.tasks.task import Task, TaskExample, task_from_block
from fenghuo.text.tokenizer import Tokenizer

BATCH_PIECES = 2048
"""Of a batch in the evaluation. Activations share one scale a call, so it is near what the service uses."""


def run(recipe: QuantizeRecipe, run: RunDir) -> None:
    """Quantize, compare with the model it came from, and write RUN/model with both ONNX files.

    Raises:
        ModelError: a model that cannot be exported, or whose int8 numbers are not finite.
        GateError: more than `evaluate.max_drop` points were lost; no model is written.
    """
    folder = model_folder(recipe.model)
    task, splits = _evaluation(recipe, folder)
    data = (
        [] if splits is None else [path for path in (splits.data.dev, splits.data.test) if path is not None]
    )
    inputs = [("model", weights_file(folder)), *(("data", path) for path in data)]
    run.environment(seed=None, inputs=inputs)
    reduced = needs_reduced_range()
    with folder_atomic(run.model) as new:
        copy_model(folder, new)
        if is_current(folder):
            write_atomic(new / FILE, (folder / FILE).read_bytes())
        else:
            run.log(f"exporting {folder}")
            write_onnx(folder, new)
        int8 = quantize(new / FILE, reduce_range=reduced)
        write_atomic(new / QUANTIZED_FILE, int8.SerializeToString())
        model, tokenizer = load_model(folder), Tokenizer.load(folder)
        result: dict[str, Any] = {
            "role": "quantized",
            "method": recipe.method,
            "reduce_range": reduced,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "bytes": {
                name: (new / name).stat().st_size
                for name in (weights_file(folder).name, FILE, QUANTIZED_FILE)
            },
            "operators": operators(int8),
        }
        if task is not None and splits is not None:
            result |= _judge(model, task, splits, tokenizer, new / QUANTIZED_FILE)
            _gate(recipe, run, result)
        write_card(new, title="Quantized to int8", recipe=recipe, result=result)
    sizes = result["bytes"]
    run.log(f"{sizes[FILE] / 1e6:.1f} MB → {sizes[QUANTIZED_FILE] / 1e6:.1f} MB")
    run.finish(result)


def plan(recipe: QuantizeRecipe) -> str:
    """What the run will do, and the disk it takes."""
    folder = model_folder(recipe.model)
    _, splits = _evaluation(recipe, folder)
    count = sum(weight.numel() for weight in load_model(folder).parameters())
    rows = (
        0
        if splits is None
        else sum(len(split[0]) for split in (splits.dev, splits.test) if split is not None)
    )
    source = "is there" if is_current(folder) else "will be exported"
    bits = 7 if needs_reduced_range() else 8
    lines = (
        f"model       {folder}, {count:,} parameters",
        f"fp32 ONNX   {source}, about {4 * count / 1e6:.1f} MB",
        f"int8 ONNX   about {1.05 * count / 1e6:.1f} MB, {bits} bits of a weight in use",
        f"evaluation  {rows} rows" if rows else "evaluation  none",
    )
    return "\n".join(lines)


def _evaluation(recipe: QuantizeRecipe, folder: Path) -> tuple[Task | None, Splits | None]:
    if recipe.evaluate is None:
        return None, None
    block = task_block_of(folder)
    if block is None:
        raise ModelError(
            f"{folder}: names no task to evaluate; quantize a fine-tuned model, or leave `evaluate` out"
        )
    data = recipe.evaluate.data
    if data.dev is None and data.test is None:
        raise RecipeError("evaluate.data names neither `dev` nor `test`: a file of rows to compare on")
    task = task_from_block(block)
    return task, read_splits(task, data, Tokenizer.load(folder), train=[])


def _judge(model: Model, task: Task, splits: Splits, tokenizer: Tokenizer, path: Path) -> dict[str, Any]:
    """The figures of both models on each file, and how near their logits are on the one that decides."""
    session, pad_id = open_session(path), tokenizer.vocabulary.pad
    logits = {
        id(split[1]): (asked_logits(model, task, split[1]), session_logits(session, task, split[1], pad_id))
        for split in (splits.dev, splits.test)
        if split is not None
    }

    def figures(which: int) -> dict[str, Any]:
        return splits.figures(
            lambda rows, examples: score_rows(
                task, rows, examples, tokenizer, lambda one: logits[id(one)][which]
            ),
            task.metric,
        )

    fp32, int8 = figures(0), figures(1)
    decides = splits.test or splits.dev
    assert decides is not None
    before_NC, after_NC = (np.concatenate(found) for found in logits[id(decides[1])])
    return {
        "task": task.kind,
        "metric": task.metric,
        **int8,
        "value_before": fp32["value"],
        "drop": round(100 * (fp32["value"] - int8["value"]), 4),
        **agreement(before_NC, after_NC),
    }


def agreement(before_NC: NDArray[Any], after_NC: NDArray[Any]) -> dict[str, float]:
    """The share of answers that stayed, and the largest change of a logit.

    Raises:
        ModelError: numbers that are not finite.
    """
    if not np.isfinite(after_NC).all():
        raise ModelError("the quantized model gives numbers that are not finite")
    same = before_NC.argmax(-1) == after_NC.argmax(-1)
    return {
        "agreement": round(float(same.mean()), 6),
        "max_logit_difference": round(float(np.abs(before_NC - after_NC).max()), 6),
    }


def session_logits(
    session: Any, task: Task, examples: Sequence[TaskExample], pad_id: int
) -> list[NDArray[Any]]:
    """As `tasks.evaluate.asked_logits`, for an exported model."""
    found: list[NDArray[Any]] = [np.zeros(0)] * len(examples)
    for group in batches_by_length(examples, BATCH_PIECES):
        inputs = pad([(examples[number].pieces, examples[number].segments) for number in group], pad_id)
        for number, logits in zip(group, call(session, inputs), strict=True):
            labels = examples[number].labels
            found[number] = logits[: len(labels)][labels != -100] if labels.ndim else logits[None]
    return found


def _gate(recipe: QuantizeRecipe, run: RunDir, result: dict[str, Any]) -> None:
    told = (
        f"{result['metric']} {result['value_before']:.4f} → {result['value']:.4f} on {result['value_of']} "
        f"(drop {result['drop']:.2f} points), {100 * result['agreement']:.2f} % of the answers stayed"
    )
    run.log(told)
    assert recipe.evaluate is not None
    if recipe.evaluate.max_drop is not None and result["drop"] > recipe.evaluate.max_drop:
        raise GateError(f"more than {recipe.evaluate.max_drop:g} points lost by quantization: {told}")
