"""How much more memory a piece of work holds at its peak than before it began. Needs no torch."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
M_MMAP_THRESHOLD = -3  # of malloc.h


def _resident_mib(field: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def _begin() -> float:
    """Give back what is free, and let the kernel's peak begin again: what is resident now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    return before


class Resident:
    """A process's resident memory from here on, as a user sees it: what malloc keeps for later is counted."""

    def __init__(self) -> None:
        self._before = _begin() if STATUS.exists() else 0.0

    def highest_mib(self) -> float | None:
        """The highest point so far, less what was resident at the beginning; None where not Linux."""
        return round(_resident_mib("VmHWM") - self._before, 1) if STATUS.exists() else None


def peak_mib(work: Callable[[], object]) -> float | None:
    """Resident memory at the highest point of one call, less what was resident before it; None where not Linux.

    The kernel's figure, not torch's: masks come from numpy, and the matrix products have buffers of their own.
    Whatever is larger than 64 KiB is given back when it is freed, so that the figure is of what is alive; that makes
    work slower, so time nothing in this process afterwards. The call runs in a thread of its own, because attention
    keeps its buffers by thread: they are counted as if this were the first call.
    """
    if not STATUS.exists():
        return None
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 16)
    work()  # the libraries' own buffers are there from now on
    before = _begin()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return round(max(0.0, _resident_mib("VmHWM") - before), 1)
