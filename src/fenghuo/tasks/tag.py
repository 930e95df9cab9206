"""Entities: a BIO tag a piece, answers by character."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.errors import DataError, did_you_mean
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.tasks.decode import entities, windows
from fenghuo.tasks.read_data import Row, Span
from fenghuo.tasks.scores import entity_scores
from fenghuo.tasks.task import TaskExample
from fenghuo.text.tokenizer import Pieces, Tokenizer, frame


@dataclass(frozen=True, kw_only=True)
class Tag:
    """Named entities. Texts longer than `max_length` are cut into windows, so that no entity is out of sight."""

    kind: ClassVar[str] = "tag"
    citation: ClassVar[str] = "Devlin et al. 2019, arXiv 1810.04805, §5.3; Tjong Kim Sang and De Meulder 2003"
    labels: tuple[str, ...]
    max_length: int
    chosen_metric: Literal["f1"] | None = None

    @property
    def metric(self) -> str:
        """Entity-level micro F1."""
        return "f1"

    def heads(self) -> HeadsConfig:
        """One linear layer on every piece; no pooler."""
        return HeadsConfig(pooler=False, task="tag", outputs=len(self.labels))

    def examples(self, rows: Sequence[Row], tokenizer: Tokenizer) -> list[TaskExample]:
        """One example a window; pieces that only give context are not asked."""
        found = []
        for number, (row, pieces) in enumerate(
            zip(rows, tokenizer.encode_batch([row.text for row in rows]), strict=True)
        ):
            tags = self._tags(row, pieces)
            size = self.max_length - tokenizer.vocabulary.specials(pair=False)
            for window in windows(row.text, pieces.starts, pieces.ends, size=size):
                framed, segments = frame(
                    tokenizer.vocabulary,
                    pieces.ids[window.start : window.stop],
                    None,
                    max_length=self.max_length,
                )
                labels = np.full(len(framed), -100, dtype=np.int64)
                first = 1 - window.start  # [CLS] stands before the window's first piece
                labels[first + window.keep_start : first + window.keep_stop] = tags[
                    window.keep_start : window.keep_stop
                ]
                found.append(TaskExample(number, framed, segments, labels))
        return found

    def asked(self, model: Model, batch: Mapping[str, Tensor]) -> Tensor:
        """(N, C): pieces whose label is not -100."""
        return model.task_logits(batch)[batch["labels"] != -100]

    def answers(
        self,
        rows: Sequence[Row],
        examples: Sequence[TaskExample],
        logits: Sequence[NDArray[Any]],
        tokenizer: Tokenizer,
    ) -> list[tuple[Span, ...]]:
        """Character spans of each row; kept stretches of its windows are joined before decoding."""
        of_row: dict[int, list[NDArray[Any]]] = defaultdict(list)
        for example, asked in zip(examples, logits, strict=True):
            of_row[example.row].append(asked)
        found = []
        for number, (row, pieces) in enumerate(
            zip(rows, tokenizer.encode_batch([row.text for row in rows]), strict=True)
        ):
            joined = np.concatenate(of_row[number]) if number in of_row else np.zeros((0, len(self.labels)))
            spans = entities(joined, self.labels, pieces.starts, pieces.ends, row.text)
            found.append(tuple((span["start"], span["end"], span["label"]) for span in spans))
        return found

    def gold(self, row: Row) -> tuple[Span, ...]:
        """The row's entities, those a tokenizer could not separate included."""
        assert row.entities is not None
        return row.entities

    def score(self, gold: Sequence[Sequence[Span]], given: Sequence[Sequence[Span]]) -> dict[str, float]:
        """Entity-level F1, precision, recall."""
        return entity_scores(gold, given)

    def _tags(self, row: Row, pieces: Pieces) -> NDArray[np.int64]:
        """(n,) label numbers: a piece belongs to the entity it begins in."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        tags = np.zeros(len(pieces.ids), dtype=np.int64)
        for start, end, label in row.entities or ():
            if f"B-{label}" not in numbers:
                kinds = sorted({name[2:] for name in self.labels if name != "O"})
                near = did_you_mean(label, kinds)
                raise DataError(
                    f"{row.place}: unknown entity label '{label}'.{near} Known: {', '.join(kinds)}"
                )
            inside = np.flatnonzero((pieces.starts < end) & (pieces.ends > start))
            if len(inside):
                tags[inside] = numbers[f"I-{label}"]
                tags[inside[0]] = numbers[f"B-{label}"]
        return tags
