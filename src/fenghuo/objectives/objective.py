"""The contract of an objective: data side and model side of one question, in one class."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.shards import Example
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives import OBJECTIVES
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms

Arrays = dict[str, NDArray[Any]]


class Objective(Protocol):
    """One question asked of an encoder, built from the values of its recipe and a vocabulary."""

    name: str
    weight: float
    citation: str

    def heads(self) -> HeadsConfig:
        """The heads this question needs."""
        ...

    def prepare(self, example: Example, rng: np.random.Generator) -> Arrays:
        """One slice of the corpus in, one framed example out. No model, no torch."""
        ...

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """How many things a batch asks."""
        ...

    def terms(self, model: Model, batch: Mapping[str, Tensor]) -> Terms:
        """Loss sums (weighted) and right answers over what the batch asks."""
        ...


def build_objective(values: Mapping[str, Any], vocabulary: Vocabulary) -> Objective:
    """The objective that `values["name"]` names, with the other values as its settings."""
    home, _, name = OBJECTIVES[values["name"]].partition(":")
    settings = {key: value for key, value in values.items() if key != "name"}
    objective: Objective = getattr(import_module(home), name)(vocabulary=vocabulary, **settings)
    return objective
