"""Classes of a text or of a pair of texts: the pooled [CLS] through one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.errors import DataError, did_you_mean
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.tasks.read_data import Row
from fenghuo.tasks.scores import class_scores
from fenghuo.tasks.task import TaskExample
from fenghuo.text.tokenizer import Tokenizer, frame


@dataclass(frozen=True, kw_only=True)
class Classify:
    """One text, one label."""

    kind: ClassVar[str] = "classify"
    citation: ClassVar[str] = "Devlin et al. 2019, arXiv 1810.04805, §4.1"
    labels: tuple[str, ...]
    max_length: int
    chosen_metric: Literal["accuracy", "macro_f1"] | None = None

    @property
    def metric(self) -> str:
        """The figure that decides."""
        return self.chosen_metric or "accuracy"

    def heads(self) -> HeadsConfig:
        """Pooler and one linear layer."""
        return HeadsConfig(task="classify", outputs=len(self.labels))

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[TaskExample]:
        """`[CLS] text [SEP]`, with a pair `[CLS] a [SEP] b [SEP]`; the longer text is cut first."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        firsts = tokenizer.encode_batch([row.text for row in rows])
        seconds = tokenizer.encode_batch([row.text_pair or "" for row in rows])
        found = []
        for number, (row, first, second) in enumerate(zip(rows, firsts, seconds, strict=True)):
            if row.label is not None and row.label not in numbers:
                near = did_you_mean(row.label, numbers)
                known = ", ".join(self.labels)
                raise DataError(f"{row.place}: unknown label '{row.label}'.{near} Known: {known}")
            pair = None if row.text_pair is None else second.ids
            pieces, segments = frame(tokenizer.vocabulary, first.ids, pair, max_length=self.max_length)
            label = np.array(numbers.get(row.label or "", 0), dtype=np.int64)
            found.append(TaskExample(number, pieces, segments, label))
        return found

    def asked(self, model: Model, batch: Mapping[str, Tensor]) -> Tensor:
        """(S, C): every sequence is asked."""
        return model.task_logits(batch)

    def answers(
        self,
        rows: Sequence[Row],
        examples: Sequence[TaskExample],
        logits: Sequence[NDArray[Any]],
        tokenizer: Tokenizer,
    ) -> list[str]:
        """The likeliest label of each row."""
        return [self.labels[int(row_logits.reshape(-1).argmax())] for row_logits in logits]

    def gold(self, row: Row) -> str:
        """The row's label."""
        assert row.label is not None
        return row.label

    def score(self, gold: Sequence[str], given: Sequence[str]) -> dict[str, float]:
        """Accuracy and macro F1."""
        return class_scores(gold, given)


@dataclass(frozen=True, kw_only=True)
class ClassifyPair(Classify):
    """Two texts, one label."""

    kind: ClassVar[str] = "pair"
