"""Span boundary objective: a hidden span's pieces, asked of the two pieces beside it."""

# Shapes: M asked pieces, T flat pieces, D width, V vocabulary.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.net.encoder import Encoded
from fenghuo.net.heads import SpanBoundaryHead
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives.draft import Draft
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanBoundary:
    """SpanBERT's second question (SBO, arXiv 1907.10529, §3.2), asked of the pieces that `mlm` has hidden before it.

    A span is a longest run of hidden pieces, so what stands beside it is always seen: a special piece, where it
    begins or ends the text (SpanBERT's code asks nothing of such spans). Pieces after a span's twentieth are not
    asked, as there.
    """

    name: ClassVar[str] = "span_boundary"
    citation: ClassVar[str] = "Joshi et al. 2020, arXiv 1907.10529"
    vocabulary: Vocabulary
    weight: float = 1.0

    def heads(self) -> HeadsConfig:
        """A head of its own."""
        return HeadsConfig(pooler=True, span_boundary=True)

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """The asked pieces' ids, the places of the two pieces beside each one's span, and its own place in it."""
        hidden_at = draft.arrays["asked_at"]
        begins = np.flatnonzero(hidden_at[1:] - hidden_at[:-1] > 1) + 1
        first = np.concatenate(([0], begins))[: len(hidden_at)]  # of each span, among the hidden pieces
        sizes = np.concatenate((begins, [len(hidden_at)]))[: len(hidden_at)] - first
        place = np.arange(len(hidden_at)) - np.repeat(first, sizes)
        asked = np.flatnonzero(place < SpanBoundaryHead.PLACES)
        left_at = hidden_at[first] - 1
        draft.arrays |= {
            "span_left_at": np.repeat(left_at, sizes)[asked],
            "span_right_at": np.repeat(left_at + sizes + 1, sizes)[asked],
            "span_place": place[asked],
            "span_pieces": draft.arrays["asked_pieces"][asked],
        }

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Asked pieces."""
        asked = float(len(batch["span_pieces"]))
        return {"span_boundary": asked, "span_boundary_accuracy": asked}

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Cross-entropy in nats, and how many pieces were guessed right."""
        assert model.span_boundary is not None
        last_TD = encoded.last_TD
        left_MD, right_MD = last_TD[batch["span_left_at"]], last_TD[batch["span_right_at"]]
        nll_M, right_M = model.span_boundary.choice(
            left_MD, right_MD, batch["span_place"], batch["span_pieces"]
        )
        return Terms({"span_boundary": self.weight * nll_M.sum()}, {"span_boundary_accuracy": right_M.sum()})
