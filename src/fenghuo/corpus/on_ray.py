"""The tasks of a pass on a Ray cluster.

datatrove's own executor for Ray starts a process, and so a tokenizer and a dictionary, for every task, and swallows
what a task raises; so its tasks are handed to Ray here.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fenghuo.corpus.tasks import run_task, tasks_left
from fenghuo.errors import FenghuoError, RecipeError, import_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fenghuo.corpus.recipe import ExecutorRecipe


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would ask the network
    return import_extra("ray", "scale")


@contextmanager
def cluster() -> Iterator[None]:
    """The cluster that RAY_ADDRESS names, or that runs on this machine, else one made of this machine."""
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    ours = signal.getsignal(signal.SIGTERM)
    ray.init(log_to_driver=False, logging_level="ERROR")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)  # Ray puts one of its own there, and would end the process
    try:
        yield
    finally:
        ray.shutdown()


def run_on_ray(
    recipe: ExecutorRecipe, pipeline: list[Any], tasks: int, home: Path, done: Callable[[int], None]
) -> None:
    """Run the tasks that are not completed yet.

    Raises:
        RecipeError: no machine has the memory that a task asks for.
        FenghuoError: a worker died again and again. And whatever a task raises.
    """
    ray = _ray()
    memory_bytes = recipe.memory_gb << 30
    if all(node["Resources"].get("memory", 0) < memory_bytes for node in ray.nodes() if node["Alive"]):
        raise RecipeError(
            f"executor.memory_gb: no machine of the Ray cluster has {recipe.memory_gb} GB for a task"
        )
    work = ray.remote(num_cpus=1, memory=memory_bytes)(_work)
    shared = ray.put(pipeline)
    waiting = tasks_left(tasks, home, done)
    running: dict[Any, int] = {}
    most = recipe.workers or len(waiting)
    try:
        while waiting or running:
            while waiting and len(running) < most:
                task = waiting.pop(0)
                running[work.remote(shared, task, tasks, home, os.getcwd())] = task
            for ended in ray.wait(list(running))[0]:
                ray.get(ended)
                done(running.pop(ended))
    except ray.exceptions.RayTaskError as problem:
        raise problem.cause from problem
    except ray.exceptions.RayError as problem:
        raise FenghuoError(
            f"a Ray worker died, perhaps for want of memory (executor.memory_gb); what is completed is kept: {problem}"
        ) from problem
    finally:
        for one in running:
            with suppress(ray.exceptions.RayError):
                ray.cancel(one, force=True)


def _work(pipeline: list[Any], task: int, tasks: int, home: Path, folder: str) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tasks are the parallelism
    os.chdir(folder)  # the recipe's paths are told from where the command was given
    run_task(pipeline, task, tasks, home)
