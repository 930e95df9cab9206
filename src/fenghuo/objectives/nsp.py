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
_NEAR = 2  # pieces: of texts no further apart in length none is looked for that fits better


@dataclass(frozen=True, kw_only=True, slots=True)
class NextSentence:
    """BERT's second question (arXiv 1810.04805, §3.1): a slice is cut in two at a sentence edge, and in half of the
    cases the second part is replaced by text of another document.

    Label 0 is the true second part, 1 the other, as in transformers and in Google's code. What is replaced is not
    shown in that epoch. The foreign text is the end of a slice, as the true one is, and of some slices' ends the one
    nearest in length to what it replaces: lengths should not tell the label. A slice of one sentence stays as it is
    and is asked nothing; Google's script always gives it a foreign second part, which makes every such text an answer.

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
        if not len(edges):
            return asked(frame_text(self.vocabulary, example), None)
        edge = int(rng.choice(edges))
        b: Part | None = part(example, edge, len(example.pieces))
        is_random = int(rng.random() < 0.5)
        if is_random:
            b = self._foreign(example, edge, rng)
        if b is None:
            return asked(frame_text(self.vocabulary, example), None)
        return asked(frame_pair(self.vocabulary, part(example, 0, edge), b), is_random)

    def _foreign(self, example: Example, edge: int, rng: np.random.Generator) -> Part | None:
        """The end of a slice of another document: the first drawn that is about as long as what it replaces, else
        the nearest of `_TRIES`; None where all fell into this document.
        """
        wanted, room = len(example.pieces) - edge, self.source.max_pieces - edge
        found, away = None, 0
        for index in rng.integers(len(self.source), size=_TRIES):
            other = self.source[int(index)]
            if other.document == example.document:
                continue
            b = _end_of(other, wanted, room)
            if found is None or abs(len(b[0]) - wanted) < away:
                found, away = b, abs(len(b[0]) - wanted)
            if away <= _NEAR:
                break
        return found

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """Nothing more: framing has asked."""

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Sequences of two sentences or more."""
        return pair_counts(self.name, batch)

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Cross-entropy in nats, and how many were told right."""
        return pair_terms(self.name, self.weight, model, batch, encoded)


def _end_of(example: Example, wanted: int, room: int) -> Part:
    """Its last sentences: as many as come nearest to `wanted` pieces within `room`.

    Of a last sentence without room, as many of its first words as fit, or pieces of the first word.
    """
    size = len(example.pieces)
    starts = np.append(0, inner_edges(example))
    fitting = starts[size - starts <= room]
    if len(fitting):
        return part(example, int(fitting[np.abs(size - fitting - wanted).argmin()]), size)
    begin = int(starts[-1])
    edges = np.flatnonzero(example.word_start[begin + 1 : begin + room + 1])
    return part(example, begin, begin + 1 + int(edges[-1]) if len(edges) else begin + room)
