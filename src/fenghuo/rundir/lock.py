"""Only one process writes a run folder at a time.

The lock is the system's (`flock`), so it ends with the process, however that ends. A forked worker gives
its copy up at once: workers may outlive a killed parent, and must not keep the run locked.
"""

from __future__ import annotations

import fcntl
import json
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fenghuo.errors import RunError
from fenghuo.rundir.atomic import disk_error

if TYPE_CHECKING:
    from pathlib import Path

NAME = ".lock"
_handles: set[int] = set()


class Lock:
    """Held until `release()` or the end of the process. Raises RunError where it is held already."""

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        try:
            handle = _take(path)
        except OSError as error:
            raise disk_error(path, error) from error
        if handle is None:
            pid = read_note(folder).get("pid")
            who = "this process" if pid == os.getpid() else f"another process{f' ({pid})' if pid else ''}"
            raise RunError(f"{folder}: {who} is writing that run already; wait for it, or stop it")
        _handles.add(handle)
        self._handle = handle
        self.release = weakref.finalize(self, _release, path, handle, os.getpid())
        self.note({})

    def note(self, values: dict[str, Any]) -> None:
        """Leave word in the lock file for people, and for the other ranks of this launch."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, json.dumps({"pid": os.getpid(), **values}).encode(), 0)


def read_note(folder: Path) -> dict[str, Any]:
    """What the holder noted; {} where there is no lock, or no whole note."""
    with suppress(OSError, ValueError):
        values = json.loads((folder / NAME).read_bytes())
        return values if isinstance(values, dict) else {}
    return {}


def _take(path: Path) -> int | None:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        # Its holder may have removed the file between our two calls; then we hold a lock on nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _release(path: Path, handle: int, owner: int) -> None:
    if os.getpid() != owner:
        return
    _handles.discard(handle)
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        os.close(handle)


def _forget_in_child() -> None:
    for handle in _handles:
        with suppress(OSError):
            os.close(handle)
    _handles.clear()


os.register_at_fork(after_in_child=_forget_in_child)
