"""Who runs the tasks of a pass: datatrove's executors, on this machine or on a cluster.

The local one works over a pool of processes that can be stopped and whose deaths are noticed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any

from datatrove.executor.local import LocalPipelineExecutor
from loguru import logger

from fenghuo.cores import usable_cores
from fenghuo.errors import FenghuoError
from fenghuo.workers import open_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from fenghuo.corpus.recipe import ExecutorRecipe

    Execute = Callable[[list[Any], int, Path, Callable[[int], None]], None]  # pipeline, tasks, home, done


class Executor(LocalPipelineExecutor):  # type: ignore[misc]
    """Runs the tasks that are not completed yet.

    datatrove's own pool waits for ever when a worker is killed for want of memory, and cannot be told to stop.

    Args:
        home: where completed tasks are noted.
        pool: None works in this process.
        done: called with the number of each task that is completed, also before this run.
    """

    def __init__(
        self,
        pipeline: list[Any],
        *,
        tasks: int,
        home: Path,
        pool: ProcessPoolExecutor | None,
        done: Callable[[int], None],
    ) -> None:
        logger.disable("datatrove")  # its log is for clusters; ours is the run's
        super().__init__(pipeline, tasks=tasks, logging_dir=str(home))
        self.pool, self.done = pool, done

    def run(self) -> None:
        """Run them. Raises whatever a task raises, and FenghuoError where a worker died."""
        open_tasks = self.left()
        if self.pool is None:
            for task in open_tasks:
                deepcopy(self)._run_for_rank(task)
                self.done(task)
            return
        futures = {self.pool.submit(run_task, self, task): task for task in open_tasks}
        try:
            for future in as_completed(futures):
                future.result()
                self.done(futures[future])
        except BrokenProcessPool as problem:
            raise FenghuoError(
                "a worker process died, perhaps for want of memory; what is completed is kept: "
                "the same command goes on, and executor.workers needs less memory when it is smaller"
            ) from problem
        finally:
            for future in futures:
                future.cancel()

    def left(self) -> list[int]:
        """The tasks that are not completed; the others are said to be done."""
        left: list[int] = self.get_incomplete_ranks()
        for task in sorted(set(range(self.tasks)) - set(left)):
            self.done(task)
        return left

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> None:
        """datatrove's, less a log and statistics for every task, which cost 60 ms and which nobody reads."""
        data: Any = ()
        for step in self.pipeline:
            data = step(data, rank, self.world_size)
        deque(data, maxlen=0)
        self.mark_rank_as_completed(rank)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"pool": None, "done": None}


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
    Executor(pipeline, tasks=tasks, home=home, pool=pool, done=done).run()


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


def run_task(executor: Executor, task: int) -> None:
    """Run one task in this process."""
    executor._run_for_rank(task)


def _begin_worker() -> None:
    logger.disable("datatrove")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
