"""Does an MLM head know anything? Random ones are common in Chinese checkpoints, and nothing else shows it."""

# Shapes: S sequences, T flat pieces, M asked rows, V vocabulary.
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fenghuo.net.heads import MlmHead
from fenghuo.net.model import Model
from fenghuo.text.tokenizer import Tokenizer, enclose

# Plain sentences in which most pieces follow from the others; a model of either language does well on its own.
_SENTENCES = (
    "今天天气很好，我们一起去公园散步。",
    "中国的首都是北京，上海是最大的城市。",
    "他每天早上七点起床，八点去学校上课。",
    "这家酒店的服务很好，房间也很干净。",
    "学习语言最好的方法是多听多说多读多写。",
    "一年有十二个月，一个星期有七天。",
    "The capital of France is Paris, and it lies on the river Seine.",
    "He opened the door and went into the house.",
    "There are seven days in a week and twelve months in a year.",
    "She went to the shop to buy some bread and milk.",
)
_MOST_ASKED = 120
_RANDOM = 0.9
"""A head whose loss is above this share of a guess's knows next to nothing."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """How well pieces are told that are masked one at a time."""

    asked: int
    right: float
    """Share of the pieces that are the head's first choice."""
    loss: float
    """Mean negative log probability, in nats."""
    guessing: float
    """That of a guess among all pieces: ln V."""

    @property
    def looks_random(self) -> bool:
        """Whether the head does no better than a guess would."""
        return self.loss > _RANDOM * self.guessing

    def __str__(self) -> str:
        told = (
            f"{self.right:.0%} of {self.asked} masked pieces are its first choice, "
            f"loss {self.loss:.2f} against {self.guessing:.2f} of guessing"
        )
        return f"WARNING: looks RANDOM: {told}" if self.looks_random else f"trained: {told}"


def check_mlm(model: Model, tokenizer: Tokenizer) -> Health | None:
    """Mask each piece of some sentences in turn; None where the vocabulary has too few of their pieces."""
    vocabulary = tokenizer.vocabulary
    rows, answers, places = [], [], []
    for text in _SENTENCES:
        pieces = tokenizer.encode(text).ids
        if np.mean(pieces == vocabulary.unk) > 0.5:
            continue
        framed = enclose(vocabulary, pieces)
        for place in range(1, len(framed) - 1):
            if framed[place] != vocabulary.unk:
                row = framed.copy()
                row[place] = vocabulary.mask
                rows.append(row)
                answers.append(int(framed[place]))
                places.append(place)
    if not rows:
        return None
    step = max(1, len(rows) // _MOST_ASKED)
    rows, answers, places = rows[::step], answers[::step], places[::step]
    lengths = torch.tensor([len(row) for row in rows])
    batch: dict[str, Tensor] = {"pieces": torch.from_numpy(np.concatenate(rows)), "lengths": lengths}
    at_M = lengths.cumsum(0) - lengths + torch.tensor(places)
    assert model.mlm is not None
    with torch.no_grad():
        logits_MV = model.mlm(model.encode(batch).last_TD[at_M])
    answers_M = torch.tensor(answers)
    loss = torch.nn.functional.cross_entropy(logits_MV, answers_M)
    right = (logits_MV.argmax(-1) == answers_M).float().mean()
    return Health(
        asked=len(rows), right=float(right), loss=float(loss), guessing=math.log(logits_MV.shape[1])
    )


def describe_mlm(model: Model, tokenizer: Tokenizer | None) -> str:
    """What an MLM head is worth: by text where there is a vocabulary, else by what training leaves on it."""
    head = model.mlm
    if not isinstance(head, MlmHead):
        return "not tried: it says what follows, and masked pieces tell nothing of that"
    why = "it needs the vocabulary"
    if tokenizer is not None and tokenizer.vocabulary.size > model.config.vocab:
        why = "the vocabulary is not that of these weights"
    elif tokenizer is not None:
        if (health := check_mlm(model, tokenizer)) is not None:
            return str(health)
        why = "the vocabulary lacks most of the plain Chinese and English pieces that it is asked"
    spread = float(head.bias.detach().std())
    fresh_norm = head.norm is None or (bool((head.norm.weight == 1).all()) and not head.norm.bias.any())
    if spread == 0 and fresh_norm:
        return "WARNING: looks RANDOM: its bias is 0 for every piece, and its norm as before training"
    return f"not checked: {why}; its bias spreads by {spread:.3f} (0 before training)"
