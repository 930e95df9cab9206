"""A model against labelled rows, in the way it will answer: eval mode, every row counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.loader import collate
from fenghuo.net.model import Model
from fenghuo.tasks.read_data import Row
from fenghuo.tasks.task import Task, TaskExample, prepare
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.training.loop import to_tensors

EVALUATION_PIECES = 8192
"""Pieces a batch: enough to keep the processor busy, little enough to stay in its cache's neighbourhood."""


def batches_by_length(examples: Sequence[TaskExample], pieces: int) -> list[list[int]]:
    """Example numbers in groups of like length, each of at most `pieces` pieces (or one example)."""
    groups: list[list[int]] = []
    used = pieces + 1
    for number in sorted(range(len(examples)), key=lambda n: (len(examples[n].pieces), n)):
        length = len(examples[number].pieces)
        if used + length > pieces:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += length
    return groups


def read_in_batches(
    model: Model, examples: Sequence[TaskExample]
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """The examples' numbers and their flat batch, on the model's device, which is set to answer."""
    model.eval()
    device = next(model.parameters()).device
    none = np.random.default_rng(0)
    for group in batches_by_length(examples, EVALUATION_PIECES):
        yield group, to_tensors(collate([prepare(examples[number], none) for number in group]), device)


@torch.inference_mode()
def asked_logits(model: Model, task: Task, examples: Sequence[TaskExample]) -> list[NDArray[Any]]:
    """Asked logits of each example, (1, C) for classes and (n asked, C) for tags, in the examples' order."""
    found: list[NDArray[Any]] = [np.zeros(0)] * len(examples)
    for group, batch in read_in_batches(model, examples):
        logits_NC = task.asked(model, batch).float().cpu().numpy()
        asked = [int((examples[number].labels != -100).sum()) for number in group]
        for number, part in zip(group, np.split(logits_NC, np.cumsum(asked)[:-1]), strict=True):
            found[number] = part
    return found


def score_rows(
    task: Task,
    rows: Sequence[Row],
    examples: Sequence[TaskExample],
    tokenizer: Tokenizer,
    logits_of: Callable[[Sequence[TaskExample]], list[NDArray[Any]]],
) -> dict[str, float]:
    """The task's figures for a model given as examples → asked logits (torch, ONNX, …)."""
    answers = task.answers(rows, examples, logits_of(examples), tokenizer)
    return task.score([task.gold(row) for row in rows], answers)


def evaluate_model(
    model: Model, task: Task, rows: Sequence[Row], examples: Sequence[TaskExample], tokenizer: Tokenizer
) -> dict[str, float]:
    """The task's figures for a torch model."""
    return score_rows(task, rows, examples, tokenizer, lambda given: asked_logits(model, task, given))
