"""The tasks of a pass as Slurm jobs, by datatrove's executor; the command waits for them."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove.executor.slurm import SlurmPipelineExecutor
from loguru import logger

from fenghuo.errors import FenghuoError, UsageError
from fenghuo.rundir import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from fenghuo.corpus.recipe import ExecutorRecipe

_LOOK_EVERY_S = 10.0
_LONGEST_ARRAY = 1_001  # Slurm's own limit (MaxArraySize), unless a cluster has another
_PATIENCE = 3  # looks after the last job left the queue: a network disk shows late what was written


class Executor(SlurmPipelineExecutor):  # type: ignore[misc]
    """Submits the tasks that are not completed yet as one job array, so that one number stands for all jobs.

    Where they are more than an array may have jobs, a job runs several, one after another: datatrove would else submit
    arrays that wait for each other, and know the last one's number alone.
    """

    def __init__(self, recipe: ExecutorRecipe, pipeline: list[Any], *, tasks: int, home: Path) -> None:
        super().__init__(
            pipeline,
            tasks=tasks,
            time=recipe.time,
            partition=recipe.partition,
            mem_per_cpu_gb=recipe.memory_gb,
            workers=recipe.workers or -1,
            job_name=f"fenghuo-corpus-{home.name}",
            qos=None,
            env_command=f'export TOKENIZERS_PARALLELISM=false PATH="{Path(sys.executable).parent}:$PATH"',
            sbatch_args=recipe.sbatch,
            max_array_size=_LONGEST_ARRAY,
            logging_dir=str(home),
        )

    def launch_job(self) -> None:
        """As datatrove's."""
        self.tasks_per_job = ceil(len(self.get_incomplete_ranks()) / self.max_array_size)
        super().launch_job()

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """datatrove's, without a partition where none is asked for."""
        given = super().get_sbatch_args(max_array)
        return {name: value for name, value in given.items() if value is not None}

    def launch_merge_stats(self) -> None:
        """Nothing: datatrove would submit a job that adds up its own counts, and the reports hold ours."""


def run_on_slurm(
    recipe: ExecutorRecipe, pipeline: list[Any], tasks: int, home: Path, done: Callable[[int], None]
) -> None:
    """Submit the tasks that are not completed yet, or find the jobs of an earlier call, and wait for them.

    Raises:
        UsageError: there is no sbatch here, or it refused the jobs.
        FenghuoError: jobs ended without their task.
    """
    logger.disable("datatrove")
    executor = Executor(recipe, pipeline, tasks=tasks, home=home)
    note = home / "job"
    left = set(range(tasks))
    if executor.get_incomplete_ranks() and not (note.exists() and _is_queued(note.read_text())):
        _submit(executor)
        write_atomic(note, str(executor.job_id))
    patience = _PATIENCE
    try:
        while left:
            queued = _is_queued(note.read_text()) if note.exists() else False
            for task in sorted(left - set(executor.get_incomplete_ranks())):
                left.remove(task)
                done(task)
            if not left:
                return
            patience = _PATIENCE if queued else patience - 1
            if patience < 0:
                raise FenghuoError(
                    f"{len(left)} of {tasks} tasks did not come to their end, the first of them {min(left)}; "
                    f"what they said is in {home / 'slurm_logs'}. What is completed is kept: the same command goes on"
                )
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        _cancel(note)
        raise


def _submit(executor: Executor) -> None:
    try:
        executor.launch_job()
    except FileNotFoundError as problem:
        raise UsageError(
            "executor.kind slurm: there is no sbatch here; jobs are submitted where it is"
        ) from problem
    except subprocess.CalledProcessError as problem:
        raise UsageError(
            f"executor.kind slurm: sbatch refused the jobs (exit code {problem.returncode})"
        ) from problem


def _cancel(note: Path) -> None:
    """Take the jobs out of the queue, and forget them: those that are still ending are not to be waited for."""
    with suppress(OSError):
        told = subprocess.run(["scancel", note.read_text()], capture_output=True, check=False)
        if told.returncode == 0:
            note.unlink()


def _is_queued(job: str) -> bool:
    """Whether any task of the job waits or runs; a job that Slurm has forgotten does not."""
    told = subprocess.run(
        ["squeue", "-h", "-j", job, "-o", "%i"], capture_output=True, text=True, check=False
    )
    return told.returncode == 0 and bool(told.stdout.strip())
