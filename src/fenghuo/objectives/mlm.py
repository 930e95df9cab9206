"""Masked language model: hide some pieces, ask for them back."""

# Shapes: M hidden pieces, W hidden words, T flat pieces, D width, V vocabulary.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.net.encoder import Encoded
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives.draft import Draft
from fenghuo.objectives.masking import RunLengths, choose_runs, choose_units, show_instead
from fenghuo.objectives.recipe import Decide, Favor, RunsOf, Unit
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedLanguageModel:
    """BERT's question (arXiv 1810.04805), by single pieces, by whole words (arXiv 1906.08101), by n-grams (arXiv
    1909.11942) or by spans (arXiv 1907.10529). The settings are those of `MlmRecipe`.

    Labels are the pieces that stood there: a Chinese word's later characters keep their own ids.
    """

    name: ClassVar[str] = "mlm"
    citation: ClassVar[str] = (
        "Devlin et al. 2019, arXiv 1810.04805; Cui et al. 2019, arXiv 1906.08101; "
        "Lan et al. 2019, arXiv 1909.11942; Joshi et al. 2020, arXiv 1907.10529"
    )
    vocabulary: Vocabulary
    rate: float = 0.15
    unit: Unit = "word"
    longest: int | None = None
    favor: Favor | None = None
    geometric_p: float | None = None
    runs_of: RunsOf | None = None
    decide: Decide = "unit"
    mask_share: float = 0.8
    random_share: float = 0.1
    weight: float = 1.0

    @property
    def hides_words(self) -> bool:
        """Whether a word is hidden as a whole, or not at all."""
        return self.unit != "piece" and self.runs_of != "piece"

    @property
    def lengths(self) -> RunLengths | None:
        """Of the n-grams or spans."""
        if self.unit == "ngram":
            return RunLengths.ngrams(self.longest or 3, self.favor or "shorter")
        if self.unit == "span":
            return RunLengths.spans(self.longest or 10, self.geometric_p or 0.2)
        return None

    def heads(self) -> HeadsConfig:
        """The MLM head; the pooler is left to the tasks."""
        return HeadsConfig(pooler=True, mlm=True)

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """Hide some of the text's pieces; the places asked, the ids that stood there, and which of them are the first
        asked of their word."""
        text_at = np.flatnonzero(~draft.fixed)
        word_start = draft.word_start[text_at]
        begins = word_start if self.hides_words else np.ones(len(text_at), dtype=np.bool_)
        if (lengths := self.lengths) is None:
            unit = choose_units(begins, self.rate, rng)
        else:
            unit = choose_runs(begins, self.rate, lengths, rng)
        chosen = np.flatnonzero(unit >= 0)
        asked_at, word_of = text_at[chosen], np.cumsum(word_start, dtype=np.int64)[chosen]
        asked = draft.pieces[asked_at]
        if self.decide == "unit":
            die_of = unit[chosen]
        elif self.decide == "word":
            die_of = word_of
        else:
            die_of = np.arange(len(chosen))
        draft.pieces[asked_at] = show_instead(
            asked, die_of, self.vocabulary, rng, mask_share=self.mask_share, random_share=self.random_share
        )
        draft.hidden[asked_at] = True
        starts = np.diff(word_of, prepend=-1) > 0
        draft.arrays |= {"asked_at": asked_at, "asked_pieces": asked, "asked_word": starts}

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Hidden pieces: the denominator of the loss and of the accuracy; and words of which a piece is hidden."""
        hidden = float(len(batch["asked_pieces"]))
        return {"mlm": hidden, "mlm_accuracy": hidden, "mlm_word_accuracy": float(batch["asked_word"].sum())}

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Cross-entropy in nats, and how many pieces were guessed right, and how many words in all pieces asked; logits
        are made for asked pieces only."""
        assert model.mlm is not None
        nll_M, right_M = model.mlm.choice(encoded.last_TD[batch["asked_at"]], batch["asked_pieces"])
        seen = {
            "mlm_accuracy": right_M.sum(),
            "mlm_word_accuracy": _words_right(right_M, batch["asked_word"]),
        }
        return Terms({"mlm": self.weight * nll_M.sum()}, seen)


def _words_right(right_M: Tensor, starts_M: Tensor) -> Tensor:
    """How many words have all their asked pieces right."""
    word_M = starts_M.cumsum(0) - 1
    wrong_W = torch.zeros_like(word_M).index_add_(0, word_M, (~right_M).long())  # with a tail of zeros
    return starts_M.sum() - wrong_W.count_nonzero()
