"""Who runs the tasks of a pass: processes of this machine, which can be stopped and whose deaths are noticed, or a
cluster.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any

from fenghuo.cores import usable_cores
from fenghuo.corpus.tasks import run_task, tasks_left
from fenghuo.errors import FenghuoError
from fenghuo.workers import open_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from fenghuo.corpus.recipe import ExecutorRecipe

    Execute = Callable[[list[Any], int, Path, Callable[[int], None]], None]  # pipeline, tasks, home, done


@contextmanager
def open_executor(recipe: ExecutorRecipe, most: int) -> Iterator[Execute]:
    """What runs all tasks of a pipeline that are not completed yet, and ends with the block.

    Args:
        most: how many tasks a pipeline has at most.

    It raises whatever a task raises, and FenghuoError where a worker or a job died.
    """
    if recipe.kind == "local":
        number = min(recipe.workers or usable_cores(), most)
        with workers(number) as pool:
            yield partial(_run_here, pool)
    elif recipe.kind == "ray":
        from fenghuo.corpus.on_ray import cluster, run_on_ray

        with cluster():
            yield partial(run_on_ray, recipe)
    else:
        from fenghuo.corpus.on_slurm import run_on_slurm

        yield partial(run_on_slurm, recipe)


def _run_here(
    pool: ProcessPoolExecutor | None, pipeline: list[Any], tasks: int, home: Path, done: Callable[[int], None]
) -> None:
    waiting = tasks_left(tasks, home, done)
    if pool is None:
        for task in waiting:
            run_task(deepcopy(pipeline), task, tasks, home)  # as fresh as a worker's copy
            done(task)
        return
    futures = {pool.submit(run_task, pipeline, task, tasks, home): task for task in waiting}
    try:
        for future in as_completed(futures):
            future.result()
            done(futures[future])
    except BrokenProcessPool as problem:
        raise FenghuoError(
            "a worker process died, perhaps for want of memory; what is completed is kept: "
            "the same command goes on, and executor.workers needs less memory when it is smaller"
        ) from problem
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def workers(number: int) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of so many processes, ended with the block however it ends; None for one: this process will do."""
    if number <= 1:
        yield None
        return
    context = multiprocessing.get_context("forkserver")
    _start_server()
    with open_pool(context, number, _begin_worker) as pool:
        yield pool


def _start_server() -> None:
    """Start the process that workers are forked from with SIGINT held back, which all of them inherit.

    A terminal sends Ctrl-C to every process; one that is still importing would answer with a traceback.
    """
    resource_tracker.ensure_running()  # it lets signals through again when it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
