"""fenghuo's training step, for benchmarks/pretrain.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import torch
from program import serve

from fenghuo.corpus.visits import Cursor
from fenghuo.models.build import build
from fenghuo.objectives.mlm import MaskedLanguageModel
from fenghuo.objectives.objective import Alternatives, Questions
from fenghuo.pretrain.run import QuestionsLearner
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import steps
from fenghuo.training.optim import build_optimizer
from fenghuo.training.process import prepare_process
from fenghuo.training.recipe import OptimizerRecipe

RATE = 1e-4


def prepare(preset: str, vocabulary: int, batches: list[dict[str, Any]]) -> Callable[[], object]:
    """Steps as `fenghuo pretrain` takes them: the process prepared, the guard against divergence included."""
    prepare_process()
    # The model's side of the objective asks nothing of a vocabulary.
    none = Vocabulary(vocabulary, 0, 0, 0, 0, 0, (), 1, np.zeros(0, np.int64))
    questions = Alternatives([Questions([MaskedLanguageModel(vocabulary=none, unit="piece")], none)], [1.0])
    model = build(preset, vocab=vocabulary, heads=questions.heads(), seed=0)
    arrays = [{name: np.array(values, np.int64) for name, values in batch.items()} for batch in batches]

    def endless() -> Iterator[tuple[Cursor, list[dict[str, Any]]]]:
        for batch in cycle(arrays):
            yield Cursor(), [batch]

    taken = steps(
        model,
        endless(),
        QuestionsLearner(model, questions),
        build_optimizer(model, OptimizerRecipe(learning_rate=RATE)),
        lambda step: RATE,
        start=0,
        seed=0,
        clip=1.0,
    )
    return lambda: next(taken)


if __name__ == "__main__":
    serve(prepare, torch.__version__)
