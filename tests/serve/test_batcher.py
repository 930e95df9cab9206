"""The batcher: batches form under load, order holds, budgets hold, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.serve.batcher import Batcher, BusyError


class Recorder:
    """A worker that doubles numbers, keeps the batches it saw, and can be held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, questions: list[int]) -> list[int]:
        self.begun += 1
        assert self.gate.wait(10)
        self.batches.append(questions)
        return [2 * question for question in questions]


def batcher_of(run, *, max_tokens=64, max_queue=1000, workers=1, report=lambda _: None):
    return Batcher(
        run,
        length=lambda question: question % 10 + 1,
        max_tokens=max_tokens,
        max_queue=max_queue,
        workers=workers,
        report=report,
    )


async def until(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came")


def test_what_arrives_while_a_batch_runs_goes_together():
    async def main():
        run, reports = Recorder(), []
        batcher = batcher_of(run, report=reports.append)
        run.gate.clear()
        first = asyncio.create_task(batcher.ask([1]))
        await until(lambda: run.begun == 1)
        rest = [asyncio.create_task(batcher.ask([i])) for i in (11, 21, 31)]
        await until(lambda: batcher.depth == 3)
        run.gate.set()
        assert await first == [2]
        assert await asyncio.gather(*rest) == [[22], [42], [62]]
        await batcher.close()
        assert run.batches == [[1], [11, 21, 31]]
        assert [(report.size, report.tokens) for report in reports] == [(1, 2), (3, 6)]
        assert all(len(report.queued_s) == report.size for report in reports)
        assert all(0 <= queued < 10 for report in reports for queued in report.queued_s)

    asyncio.run(main())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=20),
    st.integers(1, 60),
    st.integers(1, 3),
)
def test_every_answer_goes_to_its_question_and_no_batch_breaks_the_budget(asked, max_tokens, workers):
    async def main():
        run = Recorder()
        batcher = batcher_of(run, max_tokens=max_tokens, workers=workers)
        answers = await asyncio.gather(*(batcher.ask(questions) for questions in asked))
        assert answers == [[2 * question for question in questions] for questions in asked]
        await batcher.close()
        assert sorted(q for batch in run.batches for q in batch) == sorted(q for qs in asked for q in qs)
        for batch in run.batches:
            assert len(batch) == 1 or len(batch) * (max(q % 10 for q in batch) + 1) <= max_tokens

    asyncio.run(main())


def test_the_oldest_goes_first_and_takes_its_like_along():
    async def main():
        run = Recorder()
        batcher = batcher_of(run, max_tokens=20)
        run.gate.clear()
        held = asyncio.create_task(batcher.ask([0]))
        await until(lambda: run.begun == 1)
        waiting = asyncio.create_task(batcher.ask([9, 0, 8, 0]))
        await until(lambda: batcher.depth == 4)
        run.gate.set()
        await asyncio.gather(held, waiting)
        await batcher.close()
        assert run.batches[1:] == [[9, 8], [0, 0]]

    asyncio.run(main())


def test_a_full_queue_takes_all_of_a_request_or_nothing():
    async def main():
        run = Recorder()
        batcher = batcher_of(run, max_queue=3)
        run.gate.clear()
        held = asyncio.create_task(batcher.ask([1]))
        await until(lambda: run.begun == 1)
        two = asyncio.create_task(batcher.ask([2, 3]))
        await until(lambda: batcher.depth == 2)
        with pytest.raises(BusyError, match="2 of 3 places"):
            await batcher.ask([4, 5])
        assert batcher.depth == 2
        run.gate.set()
        assert await asyncio.gather(held, two) == [[2], [4, 6]]
        await batcher.close()

    asyncio.run(main())


def test_a_failing_batch_fails_its_own_questions_only():
    async def main():
        def run(questions: list[int]) -> list[int]:
            if 13 in questions:
                raise RuntimeError("unlucky")
            return questions

        batcher = batcher_of(run, max_tokens=4)
        asked = [asyncio.create_task(batcher.ask([i])) for i in (13, 1, 2)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found[0], RuntimeError)
        assert found[1:] == [[1], [2]]
        assert await batcher.ask([5]) == [5]
        await batcher.close()

    asyncio.run(main())


def test_a_run_that_returns_too_few_answers_is_an_error_not_a_hang():
    async def main():
        batcher = batcher_of(lambda questions: questions[1:])
        with pytest.raises(ValueError, match="zip"):
            await batcher.ask([1, 2])
        await batcher.close()

    asyncio.run(main())


def test_questions_of_a_client_that_left_are_not_computed():
    async def main():
        run = Recorder()
        batcher = batcher_of(run)
        run.gate.clear()
        held = asyncio.create_task(batcher.ask([1]))
        await until(lambda: run.begun == 1)
        left = asyncio.create_task(batcher.ask([2, 3]))
        await until(lambda: batcher.depth == 2)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert batcher.depth == 0
        run.gate.set()
        await held
        assert await batcher.ask([4]) == [8]
        await batcher.close()
        assert run.batches == [[1], [4]]

    asyncio.run(main())


def test_closing_answers_what_waits():
    async def main():
        def slow(questions: list[int]) -> list[int]:
            time.sleep(0.01)
            return questions

        batcher = batcher_of(slow, max_tokens=4)
        asked = [asyncio.create_task(batcher.ask([i])) for i in range(12)]
        await until(lambda: batcher.depth > 0)
        await batcher.close()
        assert await asyncio.gather(*asked) == [[i] for i in range(12)]

    asyncio.run(main())


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_answers_what_is_being_computed(workers):
    async def main():
        run = Recorder()
        batcher = batcher_of(run, workers=workers)
        run.gate.clear()
        asked = asyncio.create_task(batcher.ask([1]))
        await until(lambda: run.begun == 1)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        with pytest.raises(BusyError, match="shutting down"):
            await batcher.ask([2])
        run.gate.set()
        await asyncio.wait_for(closing, 5)
        assert await asyncio.wait_for(asked, 5) == [2]

    asyncio.run(main())
