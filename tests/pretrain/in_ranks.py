"""What torchrun starts in the tests: pretraining runs one after another, with a record of who saw which example.

    torchrun --nproc-per-node 2 in_ranks.py jobs.json

A job is {recipe, out, stop_after?: step, stopped_rank?: who alone gets the signal}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fenghuo.pretrain.evaluate
import fenghuo.pretrain.run
from fenghuo.config import read_recipe
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.shards import ShardSource
from fenghuo.corpus.visits import Cursor
from fenghuo.errors import StoppedError, ToldError
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import run
from fenghuo.ranks import rank
from fenghuo.rundir import RunDir
from fenghuo.training.session import Session


def main(jobs: list[dict[str, Any]]) -> None:
    """Do them all in this process."""
    seen: list[tuple[int, int, int]] = []
    at: list[Cursor] = []
    batch, example, steps = Loader.batch, ShardSource.__getitem__, Session._steps
    peak_s, asked = fenghuo.pretrain.run.PEAK_S, fenghuo.pretrain.evaluate.ASKED_PIECES

    def recorded_batch(self: Loader, cursor: Cursor) -> Any:
        at[:] = [cursor]
        made = batch(self, cursor)
        at.clear()
        return made

    def recorded_example(self: ShardSource, index: int) -> Any:
        seen.extend((cursor.epoch, cursor.batch, index) for cursor in at)
        return example(self, index)

    def stopping_steps(self: Session) -> Iterator[Any]:
        for step in steps(self):
            if step.number == job.get("stop_after") and rank() == job.get("stopped_rank", 0):
                os.kill(os.getpid(), signal.SIGTERM)
            yield step

    Loader.batch, ShardSource.__getitem__, Session._steps = recorded_batch, recorded_example, stopping_steps
    fenghuo.pretrain.run.PEAK_S, fenghuo.pretrain.evaluate.ASKED_PIECES = 0.01, 100
    try:
        for job in jobs:
            seen.clear()
            recipe = read_recipe(PretrainRecipe, Path(job["recipe"]), {})
            folder = RunDir.open(Path(job["out"]), verb="pretrain", recipe=recipe)
            with suppress(StoppedError, ToldError):
                run(recipe, folder)
            folder.close()
            number = len(list(Path(job["out"]).glob(f"seen-*-{rank()}.json")))
            (Path(job["out"]) / f"seen-{number}-{rank()}.json").write_text(json.dumps(seen))
    finally:
        fenghuo.pretrain.run.PEAK_S, fenghuo.pretrain.evaluate.ASKED_PIECES = peak_s, asked
        Loader.batch, ShardSource.__getitem__, Session._steps = batch, example, steps


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
