"""Batches prepared ahead by other processes: the same stream, since a batch is a function of its cursor."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

from fenghuo.errors import FenghuoError
from fenghuo.workers import open_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from fenghuo.corpus.visits import Cursor

T = TypeVar("T")

_EACH = 2  # batches that wait for the model, for each worker
_make: list[Callable[[Cursor], Any]] = []  # of this worker


def prepared_ahead(
    make: Callable[[Cursor], T], after: Callable[[Cursor], Cursor], cursor: Cursor, workers: int
) -> Iterator[tuple[Cursor, T]]:
    """From `cursor` on, without end: the cursor after a batch, and the batch.

    Args:
        make: the batch at a cursor; it is pickled, and called in so many processes.
        after: the cursor of the batch that follows.

    Raises:
        FenghuoError: a worker died.
    """
    context = multiprocessing.get_context("forkserver")
    waiting: deque[tuple[Cursor, Future[T]]] = deque()
    with open_pool(context, workers, _begin, make) as pool:
        try:
            while True:
                while len(waiting) < _EACH * workers:
                    following = after(cursor)
                    waiting.append((following, pool.submit(_batch, cursor)))
                    cursor = following
                following, future = waiting.popleft()
                yield following, future.result()
        except BrokenProcessPool as problem:
            raise FenghuoError(
                "a process that prepares batches died, perhaps for want of memory: the same command goes on from "
                "the last checkpoint, and batch.workers needs less memory when it is smaller"
            ) from problem


def _begin(make: Callable[[Cursor], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _make.append(make)


def _batch(cursor: Cursor) -> Any:
    return _make[0](cursor)
