"""How much memory a command and all processes it starts hold together, at most."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 0.02
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            with suppress(OSError):
                parent = int((one / "stat").read_text().rsplit(")", 1)[1].split()[1])
                found.setdefault(parent, []).append(int(one.name))
    return found


def _resident_mib(process: int) -> float:
    children, total, left = _children(), 0, [process]
    while left:
        one = left.pop()
        left += children.get(one, [])
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return total * PAGE_BYTES / 2**20


def run_weighed(command: Sequence[str]) -> float:
    """Run a command to its end. Returns MiB; what processes share is counted in each. Linux only."""
    process = subprocess.Popen(command)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _resident_mib(process.pid))
        time.sleep(LOOK_EVERY_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak
