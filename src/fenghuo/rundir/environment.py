"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "fenghuo",
    "torch",
    "numpy",
    "tokenizers",
    "pyarrow",
    "datatrove",
    "rjieba",
    "onnx",
    "onnxruntime",
)


def versions() -> dict[str, str]:
    """Version of each package that shapes results, where installed. Found without importing any."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def hardware() -> dict[str, Any]:
    """Machine, processor, cores this process may use, threads, memory (bytes), names of NVIDIA cards."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or None,
        "cores": usable,
        "threads": int(_threads() or usable or 1),
        "memory_bytes": _memory_bytes(),
        "accelerators": _accelerators(),
    }


def _threads() -> str | None:
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return given if given.isdigit() else None


def _memory_bytes() -> int | None:
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _accelerators() -> list[str]:
    folder = Path("/proc/driver/nvidia/gpus")  # the driver's own list; asking torch would import it
    names = [_field(one / "information", "Model") for one in sorted(folder.glob("*"))]
    return [name for name in names if name]


def _field(path: Path, name: str) -> str | None:
    with suppress(OSError, UnicodeDecodeError), path.open() as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None
