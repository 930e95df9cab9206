"""Masked language model: hide some pieces, ask for them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fenghuo.net.encoder import Encoded
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives.draft import Draft
from fenghuo.objectives.masking import choose_units, show_instead
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedLanguageModel:
    """BERT's question (arXiv 1810.04805), by whole words (arXiv 1906.08101) or by single pieces.

    Labels are the pieces that stood there: a Chinese word's later characters keep their own ids.
    """

    name: ClassVar[str] = "mlm"
    citation: ClassVar[str] = "Devlin et al. 2019, arXiv 1810.04805; Cui et al. 2019, arXiv 1906.08101"
    vocabulary: Vocabulary
    rate: float = 0.15
    unit: Literal["word", "piece"] = "word"
    weight: float = 1.0

    def heads(self) -> HeadsConfig:
        """The MLM head; the pooler is left to the tasks."""
        return HeadsConfig(pooler=True, mlm=True)

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """Hide some of the text's pieces; the places asked, and the ids that stood there."""
        text = ~draft.fixed
        pieces = draft.pieces[text]
        unit_start = draft.word_start[text] if self.unit == "word" else np.ones(len(pieces), dtype=np.bool_)
        chosen = choose_units(unit_start, self.rate, rng)
        draft.pieces[text] = show_instead(pieces, unit_start, chosen, self.vocabulary, rng)
        draft.hidden[text] |= chosen
        draft.arrays["asked_at"] = np.flatnonzero(text)[chosen]
        draft.arrays["asked_pieces"] = pieces[chosen]

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Hidden pieces: the denominator of the loss and of the accuracy."""
        hidden = float(len(batch["asked_pieces"]))
        return {"mlm": hidden, "mlm_accuracy": hidden}

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Cross-entropy in nats, and how many pieces were guessed right; logits are made for asked pieces only."""
        assert model.mlm is not None
        logits_MV = model.mlm(encoded.last_TD[batch["asked_at"]])
        labels_M = batch["asked_pieces"]
        loss = F.cross_entropy(logits_MV.float(), labels_M, reduction="sum")
        right = (logits_MV.argmax(-1) == labels_M).sum()
        return Terms({"mlm": self.weight * loss}, {"mlm_accuracy": right})
