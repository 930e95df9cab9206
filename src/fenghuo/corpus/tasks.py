"""The tasks of a pass, and which of them are completed: whoever runs them, on whatever machine."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_COMPLETED = "completions"  # datatrove's folder, which Slurm's jobs write to


def run_task(pipeline: list[Any], task: int, tasks: int, home: Path) -> None:
    """Run one task in this process, and note in `home`, as datatrove does, that it is completed."""
    data: Any = ()
    for step in pipeline:
        data = step(data, task, tasks)
    deque(data, maxlen=0)
    (home / _COMPLETED).mkdir(parents=True, exist_ok=True)
    (home / _COMPLETED / f"{task:05d}").touch()


def tasks_left(tasks: int, home: Path, done: Callable[[int], None]) -> list[int]:
    """The tasks that are not completed; the others are said to be done."""
    left = []
    for task in range(tasks):
        if (home / _COMPLETED / f"{task:05d}").exists():
            done(task)
        else:
            left.append(task)
    return left
