"""Sentence order: which of two parts of a text came first?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.shards import Example
from fenghuo.net.encoder import Encoded
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives.draft import Draft, frame_pair, frame_text
from fenghuo.objectives.pairs import HEADS, asked, inner_edges, pair_counts, pair_terms, part
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceOrder:
    """ALBERT's question (arXiv 1909.11942, §3.1): a slice is cut in two at a sentence edge, each edge as likely as the
    other, and in half of the cases the halves change places.

    Label 0 is the right order, 1 the other, as in transformers and in Google's code. A slice of one sentence stays as
    it is and is asked nothing: albert_zh's data script carries such a sentence over into the next example, and
    leaves out documents of one sentence.
    """

    name: ClassVar[str] = "sop"
    citation: ClassVar[str] = "Lan et al. 2020, arXiv 1909.11942"
    vocabulary: Vocabulary
    weight: float = 1.0

    def heads(self) -> HeadsConfig:
        """The pooler and the pair head."""
        return HEADS

    def frame(self, example: Example, rng: np.random.Generator) -> Draft:
        """`[CLS] a [SEP] b [SEP]`, where a and b are the slice's halves in either order."""
        edges = inner_edges(example)
        if not len(edges):
            return asked(frame_text(self.vocabulary, example), None)
        edge = int(rng.choice(edges))
        halves = [part(example, 0, edge), part(example, edge, len(example.pieces))]
        swapped = int(rng.random() < 0.5)
        return asked(frame_pair(self.vocabulary, halves[swapped], halves[1 - swapped]), swapped)

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """Nothing more: framing has asked."""

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Sequences of two sentences or more."""
        return pair_counts(self.name, batch)

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Cross-entropy in nats, and how many orders were told right."""
        return pair_terms(self.name, self.weight, model, batch, encoded)
