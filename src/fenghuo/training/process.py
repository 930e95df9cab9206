"""What a process is told once, before it trains."""

from __future__ import annotations

import ctypes
import sys

import torch

# Of glibc's malloc.h; its other names for the same: MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_MAX_.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def prepare_process() -> None:
    """Same bits for the same seed and thread count; and memory that a step frees is kept for the next one."""
    make_deterministic()
    keep_freed_memory()


def make_deterministic() -> None:
    """Refuse operations that cannot promise the same bits.

    Nothing here reads memory it did not write, so new tensors are not filled first: that costs a tenth of a step.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> bool:
    """Tell glibc not to give freed memory back to the system; whether it heard.

    It gives back every array above 32 MiB at once, and the next step's is made of fresh pages: a hundred thousand page
    faults a step at 4 layers of 312, 6 % of its time (docs/results/2026-11-22-pretraining-speed.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _NEVER)])
