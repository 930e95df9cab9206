"""Exported models from the side of the stages that make and judge them."""

# Shapes: B batch, L length, n pieces of a sequence, C classes or tags.
from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fenghuo.errors import MissingExtraError

try:
    import onnxruntime
except ImportError as problem:
    raise MissingExtraError("onnxruntime", "export") from problem

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

Arrays = dict[str, NDArray[np.int64]]
Framed = tuple[NDArray[Any], NDArray[Any]]
"""ids (n,) and segments (n,) of one sequence."""


def open_session(model: bytes | Path) -> Any:
    """An onnxruntime session on the CPU that keeps its warnings to itself."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def pad(sequences: Sequence[Framed], pad_id: int) -> Arrays:
    """Sequences → (B, L) inputs, padded on the right."""
    length = max(len(ids) for ids, _ in sequences)
    arrays = {name: np.zeros((len(sequences), length), dtype=np.int64) for name in INPUTS}
    arrays["input_ids"][:] = pad_id
    for place, (ids, segments) in enumerate(sequences):
        arrays["input_ids"][place, : len(ids)] = ids
        arrays["attention_mask"][place, : len(ids)] = 1
        arrays["token_type_ids"][place, : len(ids)] = segments
    return arrays


def call(session: Any, inputs: Arrays) -> NDArray[np.float32]:
    """The model's one output."""
    (found,) = session.run(None, inputs)
    logits: NDArray[np.float32] = found
    return logits


@contextmanager
def quiet() -> Iterator[None]:
    """Exporter and quantizer talk to the terminal about their own insides; what matters comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
