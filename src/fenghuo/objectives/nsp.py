"""Next sentence: does the second text follow the first, or is it of another document?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.shards import Example
from fenghuo.errors import DataError
from fenghuo.net.encoder import Encoded
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives.draft import Draft, Part, frame_pair, frame_text
from fenghuo.objectives.objective import Source
from fenghuo.objectives.pairs import HEADS, asked, inner_edges, pair_counts, pair_terms, part
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms

_TRIES = 10  # to find another document, as in Google's create_pretraining_data.py


@dataclass(frozen=True, kw_only=True, slots=True)
class NextSentence:
    """BERT's second question (arXiv 1810.04805, §3.1): a slice is cut in two at a sentence edge, and in half of the
    cases the second part is replaced by text of another document, from one of its sentences on.

    Label 0 is the true second part, 1 the other, as in transformers and in Google's code. What is replaced is not
    shown in that epoch. The foreign text ends where the slice's budget does, at a sentence edge where there is one,
    so that pairs of either kind have lengths of their own slices. A slice of one sentence stays as it is and is asked
    nothing; Google's script always gives it a foreign second part, which makes every such text an answer.

    Raises:
        DataError: the source has one document, so there is no other to draw from.
    """

    name: ClassVar[str] = "nsp"
    citation: ClassVar[str] = "Devlin et al. 2019, arXiv 1810.04805"
    vocabulary: Vocabulary
    source: Source
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.source.documents < 2:
            raise DataError(
                f"objective 'nsp' draws its second text from another document, and the corpus has "
                f"{self.source.documents}: give it more documents, or ask 'sop', which needs one"
            )

    def heads(self) -> HeadsConfig:
        """The pooler and the pair head."""
        return HEADS

    def frame(self, example: Example, rng: np.random.Generator) -> Draft:
        """`[CLS] a [SEP] b [SEP]`, where b follows a or comes from elsewhere."""
        edges = inner_edges(example)
        foreign = None
        if len(edges):
            edge = int(rng.choice(edges))
            is_random = int(rng.random() < 0.5)
            foreign = self._other(example, rng) if is_random else None
        if not len(edges) or (is_random and foreign is None):
            return asked(frame_text(self.vocabulary, example), None)
        b = part(example, edge, len(example.pieces))
        if foreign is not None:
            b = _beginning_anywhere(foreign, self.source.max_pieces - edge, rng)
        return asked(frame_pair(self.vocabulary, part(example, 0, edge), b), is_random)

    def _other(self, example: Example, rng: np.random.Generator) -> Example | None:
        """A slice of another document, drawn evenly; None where `_TRIES` draws all fell into this one."""
        for index in rng.integers(len(self.source), size=_TRIES):
            other = self.source[int(index)]
            if other.document != example.document:
                return other
        return None

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """Nothing more: framing has asked."""

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Sequences of two sentences or more."""
        return pair_counts(self.name, batch)

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Cross-entropy in nats, and how many were told right."""
        return pair_terms(self.name, self.weight, model, batch, encoded)


def _beginning_anywhere(example: Example, room: int, rng: np.random.Generator) -> Part:
    """From one of its sentences on, at most `room` pieces: whole sentences, else whole words, else what fits."""
    starts = np.append(0, inner_edges(example))
    begin, end = int(rng.choice(starts)), len(example.pieces)
    if end - begin > room:
        for edges in (example.sentence_start, example.word_start):
            within = np.flatnonzero(edges[begin + 1 : begin + room + 1])
            if len(within):
                end = begin + 1 + int(within[-1])
                break
        else:
            end = begin + room
    return part(example, begin, end)
