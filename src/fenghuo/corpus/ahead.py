"""Batches prepared ahead by other processes: the same stream, since a batch is a function of its cursor."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from fenghuo.errors import FenghuoError
from fenghuo.workers import open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from fenghuo.corpus.loader import Batch, Loader
    from fenghuo.corpus.visits import Cursor

_EACH = 2  # batches that wait for the model, for each worker
_mine: list[Loader] = []  # of this worker


def prepared_ahead(loader: Loader, cursor: Cursor, workers: int) -> Iterator[tuple[Cursor, list[Batch]]]:
    """`Loader.iterate`, with the work done by so many processes.

    Raises:
        FenghuoError: a worker died.
    """
    context = multiprocessing.get_context("forkserver")
    waiting: deque[tuple[Cursor, Future[list[Batch]]]] = deque()
    with open_pool(context, workers, _begin, loader) as pool:
        try:
            while True:
                while len(waiting) < _EACH * workers:
                    after = loader.after(cursor)
                    waiting.append((after, pool.submit(_batch, cursor)))
                    cursor = after
                after, future = waiting.popleft()
                yield after, future.result()
        except BrokenProcessPool as problem:
            raise FenghuoError(
                "a process that prepares batches died, perhaps for want of memory: the same command goes on from "
                "the last checkpoint, and batch.workers needs less memory when it is smaller"
            ) from problem


def _begin(loader: Loader) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _mine.append(loader)


def _batch(cursor: Cursor) -> list[Batch]:
    return _mine[0].batch(cursor)
