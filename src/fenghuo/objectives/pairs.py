"""What NSP and SOP share: a text of two parts, and one question about the two."""

# Shapes: S asked sequences, n pieces of an example, k of its sentences.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fenghuo.corpus.shards import Example
from fenghuo.net.encoder import Encoded
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives.draft import Draft, Part
from fenghuo.training.loop import Terms

HEADS = HeadsConfig(pooler=True, pair=True)


def inner_edges(example: Example) -> NDArray[np.int64]:
    """(k - 1,) places at which a sentence begins, the first place apart: none in a text of one sentence."""
    edges: NDArray[np.int64] = np.flatnonzero(example.sentence_start[1:]) + 1
    return edges


def part(example: Example, begin: int, end: int) -> Part:
    """Pieces `begin` … `end` - 1 of an example."""
    return example.pieces[begin:end], example.word_start[begin:end]


def asked(draft: Draft, label: int | None) -> Draft:
    """The draft with its question; without a label nothing is asked of it.

    The pooler reads a sequence's first piece, which is at place 0.
    """
    labels = [] if label is None else [label]
    draft.arrays["pair_at"] = np.zeros(len(labels), np.int64)
    draft.arrays["pair_label"] = np.array(labels, np.int64)
    return draft


def pair_counts(name: str, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Sequences of which something is asked."""
    number = float(len(batch["pair_label"]))
    return {name: number, f"{name}_accuracy": number}


def pair_terms(
    name: str, weight: float, model: Model, batch: Mapping[str, Tensor], encoded: Encoded
) -> Terms:
    """Cross-entropy in nats over the sequences asked, and how many were answered right."""
    assert model.pooler is not None
    assert model.pair is not None
    label_S = batch["pair_label"]
    logits_S2 = model.pair(model.pooler(encoded.last_TD[batch["pair_at"]])).float()
    loss = F.cross_entropy(logits_S2, label_S, reduction="sum")
    return Terms({name: weight * loss}, {f"{name}_accuracy": (logits_S2.argmax(-1) == label_S).sum()})
