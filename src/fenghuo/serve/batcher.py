"""Questions that arrive one by one are answered in batches, without making anyone wait for company.

While a batch is computed the next questions gather; the moment a worker is free it takes the oldest one and
whatever fits beside it. An idle service therefore answers at once, a busy one in full batches.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from fenghuo.errors import FenghuoError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Q = TypeVar("Q")
R = TypeVar("R")


class BusyError(FenghuoError):
    """The queue is full: come again later."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one batch held and took."""

    size: int  # sequences
    tokens: int  # without padding
    queued_s: tuple[float, ...]  # of each sequence
    inference_s: float


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Q, R]):
    question: Q
    length: int
    answer: asyncio.Future[R]
    since_s: float = field(default_factory=time.perf_counter)


class Batcher(Generic[Q, R]):
    """An asyncio queue before a blocking function.

    Args:
        run: a batch of questions → their answers, in order; called in a worker's thread.
        length: a question's length in tokens.
        max_tokens: of a batch, padding included: its size times its longest question.
        max_queue: questions that may wait; those being computed do not count.
        workers: batches computed at once.
        report: told of each batch, on the event loop.
    """

    def __init__(
        self,
        run: Callable[[list[Q]], Sequence[R]],
        *,
        length: Callable[[Q], int],
        max_tokens: int,
        max_queue: int,
        workers: int = 1,
        report: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self.max_queue = max_queue
        self._run, self._length, self._max_tokens, self._report = run, length, max_tokens, report
        self._waiting: list[_Waiting[Q, R]] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inference")
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    @property
    def depth(self) -> int:
        """Questions waiting now."""
        return len(self._waiting)

    async def ask(self, questions: Sequence[Q]) -> list[R]:
        """The answers, in order.

        Raises:
            BusyError: the queue has no room for all of them, or is closed; none was taken.
        """
        if self._closing:
            raise BusyError("the service is shutting down")
        if len(self._waiting) + len(questions) > self.max_queue:
            raise BusyError(
                f"{len(self._waiting)} of {self.max_queue} places in the queue are taken; try again later"
            )
        loop = asyncio.get_running_loop()
        mine = [
            _Waiting[Q, R](question, self._length(question), loop.create_future()) for question in questions
        ]
        self._waiting += mine
        self._arrived.set()
        try:
            return await asyncio.gather(*(item.answer for item in mine))
        except asyncio.CancelledError:  # the client has left: its places are free again
            self._waiting = [item for item in self._waiting if not item.answer.done()]
            raise

    async def close(self) -> None:
        """Answer what waits and what is being computed, then stop."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=True)

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            await self._answer(self._take())

    def _take(self) -> list[_Waiting[Q, R]]:
        """The oldest question, and those nearest to it in length as far as the budget goes.

        Near in length, because a batch costs its longest question times its size; the oldest always
        goes along, so nobody waits for ever.
        """
        oldest, *others = self._waiting
        batch, longest = [oldest], oldest.length
        for item in sorted(others, key=lambda item: abs(item.length - oldest.length)):
            longest = max(longest, item.length)
            if (len(batch) + 1) * longest > self._max_tokens:
                break
            batch.append(item)
        taken = set(batch)
        self._waiting = [item for item in others if item not in taken]
        return batch

    async def _answer(self, batch: list[_Waiting[Q, R]]) -> None:
        started_s = time.perf_counter()
        questions = [item.question for item in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._run, questions)
            for item, answer in zip(batch, answers, strict=True):
                if not item.answer.done():
                    item.answer.set_result(answer)
        except Exception as problem:  # it belongs to those who asked; the worker goes on
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(problem)
        queued_s = tuple(started_s - item.since_s for item in batch)
        tokens = sum(item.length for item in batch)
        self._report(BatchReport(len(batch), tokens, queued_s, time.perf_counter() - started_s))
