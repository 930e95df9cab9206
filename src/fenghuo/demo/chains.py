"""Running the demo's stages: one after the other, or chains of them beside each other."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from fenghuo.config import build_recipe
from fenghuo.demo.stages import Stage
from fenghuo.progress import configure, say, track
from fenghuo.rundir import RunDir


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
    """
    say(f"{len(chains)} chains of runs for the comparisons over seeds")
    # spawn: forked threads of torch and tokenizers would hang.
    context = multiprocessing.get_context("spawn")
    cores: Any = context.Queue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)
    stop = context.Event()
    with (
        track("comparisons", len(chains), "chain") as bar,
        ProcessPoolExecutor(
            len(os.sched_getaffinity(0)), mp_context=context, initializer=_alone, initargs=(cores, stop)
        ) as pool,
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


_stop: Any = None
"""In a worker: set once another chain has failed."""


def _alone(cores: Any, stop: Any) -> None:
    """A worker keeps to one core, with every library's threads, and says nothing of its progress."""
    global _stop
    _stop = stop
    os.sched_setaffinity(0, {cores.get()})
    import torch

    torch.set_num_threads(1)
    configure(quiet=True)


def _run_chain(chain: Sequence[Stage], out: Path) -> None:
    for stage in chain:
        if _stop is not None and _stop.is_set():
            return
        run_stage(stage, out)
