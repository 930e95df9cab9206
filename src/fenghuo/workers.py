"""Worker processes that end with the block they work for, and with this process however it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any


@contextmanager
def open_pool(
    context: ForkServerContext | SpawnContext, number: int, begin: Callable[..., None], *given: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many processes, ended with the block: at once if it raises.

    Args:
        context: not that of fork, whose children would hold the other end of the pipe by which they hear of the
            parent's end, and would wait for its threads (rayon, arrow, torch).
        begin: called with `given` in each process before its first task.
    """
    # A pipe, not an event: setting an event waits for its waiters, and one of them may have been killed.
    alive, parent = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_begin, initargs=(alive, begin, given))
    try:
        yield pool
    except BaseException:
        parent.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        parent.close()
        alive.close()


def _begin(alive: Connection, begin: Callable[..., None], given: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    begin(*given)


def _end_with_parent(alive: Connection) -> None:
    with suppress(EOFError):
        alive.recv_bytes()  # nothing is ever sent: it returns when the parent closes its end, or is no more
    os._exit(1)
