"""A linear probe: how well a straight line through the encoder's vectors tells labelled texts apart.

It is what a downstream task says during a run, for seconds: the encoder stays as it is, and nothing flows back.
"""

# Shapes: T flat pieces, S texts, D width.
from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fenghuo.errors import DataError, MissingExtraError
from fenghuo.models.start import check_length
from fenghuo.net.config import EncoderConfig
from fenghuo.net.model import Model
from fenghuo.pretrain.recipe import ProbeRecipe
from fenghuo.tasks.evaluate import read_in_batches
from fenghuo.tasks.read_data import Row, read_rows
from fenghuo.tasks.task import TaskExample, task_from_rows
from fenghuo.text.tokenizer import Tokenizer

_TURNS = 1_000  # of the solver; a probe that has not settled by then is close enough


class Probe:
    """The rows of a probe, read and framed once.

    Source: Alain and Bengio 2016, arXiv 1610.01644. Theirs reads each layer; this one the last.

    Raises:
        DataError: rows that cannot be read, a label that only the test rows have, or nothing but one label to learn.
        ModelError: the model's positions end before the task's longest text.
        MissingExtraError: scikit-learn is not installed.
    """

    def __init__(self, recipe: ProbeRecipe, tokenizer: Tokenizer, config: EncoderConfig) -> None:
        check_length(config, recipe.task.max_length)
        self._line = _logistic_regression()
        train, test = (read_rows(path, recipe.data, kind=recipe.task.kind) for path in recipe.files())
        self.task = task_from_rows(recipe.task, train, place=str(recipe.data.train))
        train, test = _drawn(train, recipe.rows), _drawn(test, recipe.rows)
        if len(found := {row.label for row in train}) < 2:
            raise DataError(
                f"{recipe.data.train}: all {len(train):,} rows that the probe would learn from are '{found.pop()}'"
            )
        self.train = self.task.examples(train, tokenizer)
        self.test = self.task.examples(test, tokenizer)
        self.gold = [self.task.gold(row) for row in test]

    def figures(self, model: Model) -> dict[str, float]:
        """`probe_accuracy` and `probe_macro_f1` on the test rows, 0 … 1.

        All ranks must call it, since FSDP2 gathers weights in each pass; all get the same figures.
        """
        learned, asked = (text_vectors(model, examples) for examples in (self.train, self.test))
        mean, spread = learned.mean(0), learned.std(0) + 1e-6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it has not settled; see _TURNS
            line = self._line.fit((learned - mean) / spread, [int(example.labels) for example in self.train])
        given = [self.task.labels[int(number)] for number in line.predict((asked - mean) / spread)]
        return {f"probe_{name}": value for name, value in self.task.score(self.gold, given).items()}

    def __str__(self) -> str:
        labels = ", ".join(self.task.labels[:6]) + (", …" if len(self.task.labels) > 6 else "")
        return f"{len(self.train):,} rows to learn from, {len(self.test):,} asked; labels {labels}"


@torch.inference_mode()
def text_vectors(model: Model, examples: Sequence[TaskExample]) -> NDArray[np.float64]:
    """(S, D): the mean of the last layer's vectors over each example's pieces, special ones included."""
    found = np.zeros((len(examples), model.config.width))
    for group, batch in read_in_batches(model, examples):
        last_TD = model.encode(batch).last_TD.double().cpu().numpy()
        lengths = batch["lengths"].cpu().numpy()
        found[group] = np.add.reduceat(last_TD, np.cumsum(lengths) - lengths) / lengths[:, None]
    return found


def _logistic_regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as problem:
        raise MissingExtraError("scikit-learn", "train") from problem
    return LogisticRegression(max_iter=_TURNS)


def _drawn(rows: list[Row], most: int) -> list[Row]:
    """Some rows of a file, evenly: files are often sorted by label."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:most]
    return [rows[number] for number in sorted(chosen.tolist())]
