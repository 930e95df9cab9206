"""Chains of runs beside each other: how many, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.demo import hanging

from fenghuo.demo import chains
from fenghuo.rundir import RunDir


def test_workers_are_tied_to_cores_where_the_system_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 5}, raising=False)
    assert chains._core_numbers(2) == [2, 5]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert chains._core_numbers(2) == [None, None]


@pytest.mark.slow
def test_a_killed_demo_lets_go_of_its_run_folders(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, hanging.__file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    note, deadline_s = tmp_path / "held" / "pid", time.monotonic() + 300
    while not note.exists():
        assert demo.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    worker = Path("/proc") / note.read_text()
    deadline_s = time.monotonic() + 60
    while worker.exists():
        assert time.monotonic() < deadline_s, "the worker outlived its parent"
        time.sleep(0.05)
    stage = hanging.stage()
    RunDir.open(tmp_path / "held", verb=stage.verb, recipe=stage.recipe()).close()
