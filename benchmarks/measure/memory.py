"""How much more memory a piece of work holds at its peak than before it began."""

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
    gc.collect()
    libc.malloc_trim(0)
    before = _resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again from here
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return round(max(0.0, _resident_mib("VmHWM") - before), 1)
