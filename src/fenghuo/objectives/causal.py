"""Causal language model: each piece from those before it."""

# Shapes: T flat pieces, M asked ones (all but each sequence's last place), D width, V vocabulary.
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fenghuo.net.adaptive import AdaptiveSoftmax
from fenghuo.net.encoder import Encoded
from fenghuo.net.heads import MlmHead
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives.draft import Draft
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms

_ROWS = 1024  # whose logits exist at once: 86 MB for 21,000 pieces, where those of a batch of 8,192 take 690


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalLanguageModel:
    """Which piece comes next? Asked at every place: `[CLS]` asks for the first piece, the last piece for the `[SEP]`.

    Its run encodes left to right: by a mask, or, in position "xl", by nature. The head is the masked model's (in
    Transformer-XL the adaptive softmax). Each slice begins without memory of the one before it.
    """

    name: ClassVar[str] = "causal"
    citation: ClassVar[str] = (
        "Radford et al. 2018; Dai et al. 2019, arXiv 1901.02860; Dong et al. 2019, arXiv 1905.03197"
    )
    vocabulary: Vocabulary
    weight: float = 1.0

    def heads(self) -> HeadsConfig:
        """The MLM head; the pooler is left to the tasks."""
        return HeadsConfig(pooler=True, mlm=True)

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """At each place the piece that follows it. Nothing is hidden or drawn."""
        draft.arrays["causal_at"] = np.arange(len(draft.pieces) - 1)
        draft.arrays["causal_pieces"] = draft.pieces[1:].copy()

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Places that ask."""
        places = float(len(batch["causal_pieces"]))
        return {"causal": places, "causal_accuracy": places}

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Cross-entropy in nats, and how many pieces were guessed right.

        Logits are made for some rows at a time, and again in the backward pass. An adaptive softmax saves those of
        the rare words, so its right answers are counted in evaluation only.
        """
        assert model.mlm is not None
        hidden_MD, labels_M = encoded.last_TD[batch["causal_at"]], batch["causal_pieces"]
        if isinstance(model.mlm, AdaptiveSoftmax):
            loss = model.mlm.nll(hidden_MD, labels_M).sum()
            seen = {} if model.training else {"causal_accuracy": _right(model.mlm, hidden_MD, labels_M)}
            return Terms({"causal": self.weight * loss}, seen)
        sums = [
            checkpoint(_asked, model.mlm, hidden, labels, use_reentrant=False, preserve_rng_state=False)
            for hidden, labels in _rows(hidden_MD, labels_M)
        ]
        loss, right = (torch.stack(part).sum() for part in zip(*sums, strict=True))
        return Terms({"causal": self.weight * loss}, {"causal_accuracy": right})


def _rows(hidden_MD: Tensor, labels_M: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows at a time; one part at least, so that nothing asked is a sum of zero."""
    return zip(torch.split(hidden_MD, _ROWS), torch.split(labels_M, _ROWS), strict=True)


def _asked(head: MlmHead, hidden_MD: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    nll_M, right_M = head.choice(hidden_MD, labels_M)
    return nll_M.sum(), right_M.sum()


def _right(head: AdaptiveSoftmax, hidden_MD: Tensor, labels_M: Tensor) -> Tensor:
    parts = [(head(hidden).argmax(-1) == labels).sum() for hidden, labels in _rows(hidden_MD, labels_M)]
    return torch.stack(parts).sum()
