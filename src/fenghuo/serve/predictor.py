"""Texts → answers, with the fastest model a folder holds.

A row goes three ways: `ask` makes it a question (pieces, framed for the model), `logits` computes a padded
batch, `answer` decodes. Calling a predictor does all three; the service lets a batcher stand in the middle.

Shapes: B batch, L length, n pieces of a sequence, C classes or tags.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fenghuo.errors import DataError, ModelError
from fenghuo.serve.backends import Backend, load_backend
from fenghuo.serve.rows import read_row
from fenghuo.tasks.decode import Window, best_class, entities, numbers, windows
from fenghuo.text.tokenizer import Pieces, Tokenizer, clean_characters, frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

KINDS = ("classify", "pair", "regress", "tag")
BATCH_TOKENS = 2048
"""Of a batch, padding included."""


@dataclass(frozen=True, slots=True)
class TaskCard:
    """What a model folder says of its task (`fenghuo.task` in config.json)."""

    kind: str
    labels: tuple[str, ...]
    max_length: int  # pieces, special ones included


@dataclass(frozen=True, slots=True)
class Framed:
    """One sequence as the model wants it."""

    ids: NDArray[np.int64]  # (n,)
    segments: NDArray[np.int64]  # (n,)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Question:
    """A row, ready to be computed. A long text to tag makes several sequences, one a window."""

    text: str
    framed: tuple[Framed, ...]
    pieces: Pieces
    windows: tuple[Window, ...]  # tagging only
    cut: bool  # whether pieces beyond `max_length` were left out


class Predictor:
    """Callable on rows. Safe to call from several threads."""

    def __init__(self, folder: Path, card: TaskCard, tokenizer: Tokenizer, backend: Backend) -> None:
        self.folder, self.task, self.tokenizer = folder, card, tokenizer
        self._backend = backend
        self._check()

    @property
    def name(self) -> str:
        """The run's, where the folder is a run's `model`; else the folder's."""
        folder = self.folder.absolute()
        of_run = folder.name == "model" and (folder.parent / "recipe.yaml").is_file()
        return folder.parent.name if of_run else folder.name

    @property
    def backend(self) -> Literal["int8", "onnx", "torch"]:
        """What computes: the quantized ONNX file, the fp32 one, or torch."""
        return self._backend.name

    @property
    def threads(self) -> int:
        """Of one batch."""
        return self._backend.threads

    def __call__(self, rows: Sequence[Any], *, all_scores: bool = False) -> list[dict[str, Any]]:
        """Answer every row, in order.

        Args:
            rows: texts, (text, text_pair) pairs, or dicts with `text`, `text_pair` or `tokens`, as `fenghuo
                predict` reads them.
            all_scores: every class with its probability, not only the best.

        Returns:
            `{"label", "score"}` for classes, `{"score"}` for a regression, `{"entities": [{"start", "end",
            "label", "text", "score"}]}` for tags; offsets are characters of the text.

        Raises:
            DataError: a row that is no question for this model; says which.
        """
        if isinstance(rows, str | dict):
            raise DataError("a list of rows was wanted: predict([text])")
        questions = []
        for number, row in enumerate(rows):
            try:
                questions.append(self.ask(row))
            except DataError as problem:
                raise DataError(f"row {number}: {problem}") from None
        return self.answers(questions, all_scores=all_scores)

    def ask(self, row: Any) -> Question:
        """A row → its question.

        Raises:
            DataError: not a row for this model's task.
        """
        text, pair = read_row(row, self.task.kind)
        text = clean_characters(text)
        pieces = self.tokenizer.encode(text)
        if self.task.kind == "tag":
            room = self.task.max_length - self.tokenizer.vocabulary.specials(pair=False)
            cuts = tuple(windows(text, pieces.starts, pieces.ends, size=room))
            framed = tuple(self._frame(pieces.ids[cut.start : cut.stop], None) for cut in cuts)
            return Question(text, framed, pieces, cuts, cut=False)
        second = None if pair is None else self.tokenizer.encode(pair).ids
        framed_one = self._frame(pieces.ids, second)
        whole = len(pieces) + self.tokenizer.vocabulary.specials(pair=second is not None)
        whole += 0 if second is None else len(second)
        return Question(text, (framed_one,), pieces, (), cut=whole > len(framed_one))

    def logits(self, batch: Sequence[Framed]) -> list[NDArray[np.float32]]:
        """One padded batch → (C,) of each sequence, or (n, C) when tagging."""
        lengths = [len(framed) for framed in batch]
        ids_BL = np.full((len(batch), max(lengths)), self.tokenizer.vocabulary.pad, dtype=np.int64)
        mask_BL, segments_BL = np.zeros_like(ids_BL), np.zeros_like(ids_BL)
        for place, framed in enumerate(batch):
            ids_BL[place, : len(framed)] = framed.ids
            segments_BL[place, : len(framed)] = framed.segments
            mask_BL[place, : len(framed)] = 1
        found = self._backend.logits(ids_BL, mask_BL, segments_BL)
        if self.task.kind == "tag":
            return [logits_LC[:length] for logits_LC, length in zip(found, lengths, strict=True)]
        return list(found)

    def answer(
        self, question: Question, logits: Sequence[NDArray[Any]], *, all_scores: bool = False
    ) -> dict[str, Any]:
        """The question's answer, from the logits of its sequences in their order."""
        if self.task.kind == "tag":
            kept = [
                logits_nC[1 + window.keep_start - window.start : 1 + window.keep_stop - window.start]
                for window, logits_nC in zip(question.windows, logits, strict=True)
            ]
            joined_TC = np.concatenate(kept) if kept else np.zeros((0, len(self.task.labels)))
            pieces = question.pieces
            return {
                "entities": entities(joined_TC, self.task.labels, pieces.starts, pieces.ends, question.text)
            }
        if self.task.kind == "regress":
            return numbers(logits[0])[0]
        return best_class(logits[0][None], self.task.labels, all_scores)[0]

    def answers(self, questions: Sequence[Question], *, all_scores: bool = False) -> list[dict[str, Any]]:
        """All answers in order, computed in batches of like length."""
        framed = [one for question in questions for one in question.framed]
        found: list[NDArray[np.float32] | None] = [None] * len(framed)
        for group in by_length([len(one) for one in framed], BATCH_TOKENS):
            for place, logits in zip(group, self.logits([framed[place] for place in group]), strict=True):
                found[place] = logits
        rest = iter([logits for logits in found if logits is not None])
        return [
            self.answer(question, [next(rest) for _ in question.framed], all_scores=all_scores)
            for question in questions
        ]

    def _frame(self, first: NDArray[np.int64], second: NDArray[np.int64] | None) -> Framed:
        return Framed(*frame(self.tokenizer.vocabulary, first, second, max_length=self.task.max_length))

    def _check(self) -> None:
        """One small call: files that do not belong together are told now, not by the first user."""
        vocabulary = self.tokenizer.vocabulary
        last = np.array([vocabulary.size - 1])
        try:
            (logits,) = self.logits([self._frame(last, None)])
        except Exception as problem:  # each backend has its own classes
            raise ModelError(
                f"{self.folder}: the {self.backend} model cannot read the tokenizer's last piece "
                f"({vocabulary.size - 1}): {problem}"
            ) from problem
        outputs = 1 if self.task.kind == "regress" else len(self.task.labels)
        if logits.shape != ((3, outputs) if self.task.kind == "tag" else (outputs,)):
            raise ModelError(
                f"{self.folder}: the {self.backend} model gives logits of shape {logits.shape}, which does "
                f"not fit the task '{self.task.kind}' with {len(self.task.labels)} labels"
            )


def load_predictor(
    folder: str | Path,
    *,
    backend: Literal["auto", "int8", "onnx", "torch"] = "auto",
    threads: int | None = None,
) -> Predictor:
    """Load a model folder, or the `model/` of a run folder.

    Args:
        backend: `auto` takes the quantized ONNX file, else the fp32 one, else torch.
        threads: of one batch; absent: the cores this process may use.

    Raises:
        ModelError: files that are missing, damaged or do not belong together, or a folder without a task.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    card = read_card(folder)
    tokenizer = Tokenizer.load(folder)
    return Predictor(folder, card, tokenizer, load_backend(folder, backend=backend, threads=threads))


def read_card(folder: Path) -> TaskCard:
    """The folder's task.

    Raises:
        ModelError: no such folder, or one that was never fine-tuned here.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
        task = config.get("fenghuo", {}).get("task")
    except OSError as problem:
        raise ModelError(f"{folder}: not a model folder (config.json: {problem.strerror})") from problem
    except (ValueError, AttributeError) as problem:
        raise ModelError(f"{path}: not a JSON object") from problem
    if task is None:
        raise ModelError(
            f"{folder}: config.json names no task, so there is no question it could answer. "
            "Fine-tune it first (`fenghuo finetune`), and give the `model` folder of that run"
        )
    try:
        kind, labels = task["kind"], tuple(str(label) for label in task.get("labels") or ())
        card = TaskCard(kind, labels, int(task["max_length"]))
    except (TypeError, KeyError, ValueError) as problem:
        raise ModelError(f"{path}: its 'fenghuo.task' block is damaged ({problem!r})") from problem
    if card.kind not in KINDS:
        raise ModelError(f"{folder}: no way to answer the task '{card.kind}'. Known: {', '.join(KINDS)}")
    return card


def by_length(lengths: Sequence[int], max_tokens: int) -> Iterable[list[int]]:
    """Numbers of sequences in groups of like length; size times longest is at most `max_tokens`."""
    group: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: (lengths[number], number)):
        if group and (len(group) + 1) * lengths[number] > max_tokens:
            yield group
            group = []
        group.append(number)
    if group:
        yield group
