"""text-embeddings-inference's shape of `/predict`, so that its clients work unchanged.

Source: huggingface/text-embeddings-inference, router/src/http/types.rs (`PredictInput`, `PredictRequest`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fenghuo.errors import DataError
from fenghuo.tasks.decode import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def read_inputs(inputs: Any) -> tuple[list[Any], bool]:
    """`inputs` → rows, and whether a list of answers is wanted.

    A text is one text; a list of texts is ONE text, or one pair; a list of lists is a batch of these.

    Raises:
        DataError: another shape.
    """
    if isinstance(inputs, str):
        return [inputs], False
    if isinstance(inputs, list) and inputs:
        if all(isinstance(one, list) for one in inputs):
            return [_sequence(one) for one in inputs], True
        return [_sequence(inputs)], False
    raise DataError("'inputs' must be a text, a pair [text, text], or a batch [[text], [text, text], …]")


def _sequence(given: list[Any]) -> Any:
    if len(given) not in (1, 2) or not all(isinstance(text, str) for text in given):
        raise DataError(f"a sequence in 'inputs' is [text] or [text, text], found {given!r:.80}")
    return given[0] if len(given) == 1 else tuple(given)


def predictions(logits_C: NDArray[Any], labels: Sequence[str], *, raw_scores: bool) -> list[dict[str, Any]]:
    """Every class as `{"score", "label"}`, the best first; a regression's number is called `LABEL_0`."""
    names = labels or ("LABEL_0",)
    score_C = np.asarray(logits_C, dtype=np.float64) if raw_scores or not labels else softmax(logits_C)
    order = np.argsort(-score_C, kind="stable")
    return [{"score": round(float(score_C[place]), 6), "label": names[place]} for place in order]
