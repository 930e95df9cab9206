"""A batch that must not be learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fenghuo.corpus.loader import Loader
from fenghuo.corpus.visits import Cursor
from fenghuo.pretrain.run import QuestionsLearner
from fenghuo.ranks import rank
from fenghuo.training.terms import Terms


def spoil(
    step: int,
    factor: Mapping[str, float],
    *,
    of_rank: int = 0,
    put: Callable[[type, str, Any], None] = setattr,
) -> None:
    """Multiply the loss of a batch, the `step`th of the first epoch, with `factor["now"]` in one rank."""
    batch, terms = Loader.batch, QuestionsLearner.terms

    def marked(self: Loader, cursor: Cursor) -> list[dict[str, Any]]:
        made = batch(self, cursor)
        bad = cursor == Cursor(0, step - 1) and rank() == of_rank
        for micro_batch in made:
            micro_batch["spoiled"] = np.array([float(bad)])
        return made

    def spoiled(self: QuestionsLearner, batch: Mapping[str, Tensor]) -> Terms:
        told = terms(self, batch)
        bad = "spoiled" in batch and bool(batch["spoiled"].item())
        return Terms(
            {name: loss * (factor["now"] if bad else 1.0) for name, loss in told.loss.items()}, told.seen
        )

    put(Loader, "batch", marked)
    put(QuestionsLearner, "terms", spoiled)
