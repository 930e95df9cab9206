"""A demo whose chains hold a run folder for ever: `python hanging.py OUT`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from fenghuo.config import Recipe
from fenghuo.demo.chains import run_chains
from fenghuo.demo.stages import Stage
from fenghuo.rundir import RunDir


def hang(recipe: Recipe, run: RunDir) -> None:
    """Say who holds the folder, and hold it."""
    beside = run.path / "pid.new"
    beside.write_text(str(os.getpid()))
    beside.rename(run.path / "pid")
    time.sleep(600)


def stage() -> Stage:
    return Stage(name="held", verb="hang", title="hang", recipe=Recipe, values={}, function=hang)


if __name__ == "__main__":
    run_chains([("one", [stage()])], Path(sys.argv[1]))
