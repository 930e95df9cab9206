"""Running the demo's stages: one after the other, or chains of them beside each other."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from fenghuo.config import build_recipe
from fenghuo.cores import usable_cores
from fenghuo.demo.stages import Stage
from fenghuo.progress import configure, say, track
from fenghuo.rundir import RunDir
from fenghuo.workers import open_pool


def run_stage(stage: Stage, out: Path, number: str = "") -> None:
    """Run a stage, or go on with it; nothing where it is finished."""
    recipe = build_recipe(stage.recipe, stage.values, where=stage.name)
    run = RunDir.open(out / stage.name, verb=stage.verb, recipe=recipe)
    if run.state == "finished":
        say(f"{number}{stage.name}: done before")
        return
    say(f"{number}{stage.name}: {stage.title}")
    stage.function(recipe, run)
    run.close()


def run_chains(chains: Sequence[tuple[str, list[Stage]]], out: Path) -> None:
    """Run chains beside each other, one a core: nets this small gain little from a second thread.

    A chain that fails or is interrupted ends the others after the stage they are in; finished stages stay.
    If this process is killed they end at once, and let go of their run folders.
    """
    say(f"{len(chains)} chains of runs for the comparisons over seeds")
    # Not a fork server: the processor time of its children would be missing from what the demo says it took.
    context = multiprocessing.get_context("spawn")
    cores: Any = context.Queue()
    numbers = _core_numbers(min(usable_cores(), len(chains)))
    for core in numbers:
        cores.put(core)
    stop = context.Event()
    with (
        track("comparisons", len(chains), "chain") as bar,
        open_pool(context, len(numbers), _alone, cores, stop) as pool,
    ):
        waiting = {pool.submit(_run_chain, chain, out): name for name, chain in chains}
        try:
            for done in as_completed(waiting):
                done.result()
                say(f"{waiting[done]}: done")
                bar.advance(1)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _core_numbers(count: int) -> list[int | None]:
    """The core of each worker; None where the system (macOS) ties no process to one."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    return list(sorted(os.sched_getaffinity(0))[:count])


_stop: Any = None
"""In a worker: set once another chain has failed."""


def _alone(cores: Any, stop: Any) -> None:
    """A worker keeps to one core, with every library's threads, and says nothing of its progress."""
    global _stop
    _stop = stop
    core = cores.get()
    if core is not None:
        os.sched_setaffinity(0, {core})
    import torch

    torch.set_num_threads(1)
    configure(quiet=True)


def _run_chain(chain: Sequence[Stage], out: Path) -> None:
    for stage in chain:
        if _stop is not None and _stop.is_set():
            return
        run_stage(stage, out)
