"""One predictor, its queue and its counts: rows in, answers out, without a word of HTTP but its refusals."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from fenghuo.errors import DataError
from fenghuo.serve.batcher import Batcher
from fenghuo.serve.gate import Limits, RefusedError
from fenghuo.serve.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fenghuo.serve.predictor import Framed, Predictor, Question

A = TypeVar("A")
INLINE_CHARACTERS = 2_000
"""Up to here the event loop tokenizes itself: a walk to another thread and back takes longer."""


class Service:
    """To be started inside a running event loop."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits = predictor, limits
        self.metrics = Metrics(lambda: self.batcher.depth if self.batcher else 0)
        self.batcher: Batcher[Framed, NDArray[Any]] | None = None
        self._side = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    def start(self) -> None:
        """Accept questions."""
        self.batcher = Batcher(
            self.predictor.logits,
            length=len,
            max_tokens=self.limits.batch_tokens,
            max_queue=self.limits.queue,
            report=self.metrics.batch,
        )

    async def stop(self) -> None:
        """Answer what waits, then end."""
        if self.batcher is not None:
            await self.batcher.close()
        self._side.shutdown()

    async def answers(self, rows: Sequence[Any], *, all_scores: bool) -> list[dict[str, Any]]:
        """Rows → answers, `id` kept."""
        questions, logits = await self.compute(rows)

        def decode() -> list[dict[str, Any]]:
            return [
                ({"id": row["id"]} if isinstance(row, dict) and "id" in row else {})
                | self.predictor.answer(question, found, all_scores=all_scores)
                for row, question, found in zip(rows, questions, logits, strict=True)
            ]

        return await self._aside(decode, sum(len(question.text) for question in questions))

    async def compute(
        self, rows: Sequence[Any], *, truncate: bool = True
    ) -> tuple[list[Question], list[list[NDArray[Any]]]]:
        """Rows → questions and the logits of each one's sequences."""
        characters = self._within_limits(rows)
        started_s = time.perf_counter()
        questions = await self._aside(lambda: self._ask(rows), characters)
        self.metrics.tokenize_s.observe(time.perf_counter() - started_s)
        cut = sum(question.cut for question in questions)
        if cut and not truncate:
            told = f"longer than {self.predictor.task.max_length} pieces, and 'truncate' is false"
            raise RefusedError(413, f"{cut} texts are {told}", "validation")
        self.metrics.truncations.inc(cut)
        framed = [one for question in questions for one in question.framed]
        if len(framed) > self.limits.queue:
            told = f"{len(framed)} sequences, where the queue holds {self.limits.queue}"
            raise RefusedError(413, f"the request makes {told}; send less at once", "validation")
        assert self.batcher is not None
        found = iter(await self.batcher.ask(framed))
        return questions, [[next(found) for _ in question.framed] for question in questions]

    def _ask(self, rows: Sequence[Any]) -> list[Question]:
        questions = []
        for number, row in enumerate(rows):
            try:
                questions.append(self.predictor.ask(row))
            except DataError as problem:
                raise DataError(f"row {number}: {problem}" if len(rows) > 1 else str(problem)) from None
        return questions

    def _within_limits(self, rows: Sequence[Any]) -> int:
        """The characters in all rows; refuses too many rows, or too long a row, before any work is done."""
        if len(rows) > self.limits.rows:
            raise RefusedError(413, f"{len(rows)} rows, where {self.limits.rows} are allowed", "validation")
        counts = [_characters(row) for row in rows]
        for number, count in enumerate(counts):
            if count > self.limits.characters:
                told = f"{count} characters, where {self.limits.characters} are allowed"
                raise RefusedError(413, f"row {number}: {told}", "validation")
        return sum(counts)

    async def _aside(self, work: Callable[[], A], characters: int) -> A:
        if characters <= INLINE_CHARACTERS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._side, work)


def _characters(row: Any) -> int:
    """Of every text in it, whether or not the row turns out to be one."""
    if isinstance(row, str):
        return len(row)
    if isinstance(row, dict):
        row = [row.get("text"), row.get("text_pair"), row.get("tokens")]
    return sum(map(_characters, row)) if isinstance(row, list | tuple) else 0
