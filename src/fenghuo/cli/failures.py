"""Any exception → one readable message and an exit code."""

from __future__ import annotations

import errno
import os
import time
import traceback
from contextlib import suppress
from pathlib import Path

from fenghuo.errors import DiskError, FenghuoError, MissingExtraError, StoppedError, UsageError

EXTRA_OF = {
    "torch": "train",
    "safetensors": "train",
    "pyarrow": "train",
    "rjieba": "train",
    "datatrove": "train",
    "regex": "train",
    "xxhash": "train",
    "orjson": "train",
    "zstandard": "train",
    "sklearn": "train",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "serve",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "matplotlib": "report",
    "snownlp": "demo",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# A path that cannot be what it was given for; ENOENT is not among them, since a stage names its missing files.
_PATH = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def readable(error: BaseException, *, log: Path | None = None) -> FenghuoError:
    """The error to tell the user about.

    Args:
        error: what was raised.
        log: log.txt of a run, which the same command goes on with; the traceback of an error nobody foresaw is put
            there.
    """
    if isinstance(error, FenghuoError):
        return error
    if isinstance(error, KeyboardInterrupt):
        resumes = "; what was finished stays, and the same command goes on from there" if log else ""
        return StoppedError(f"stopped{resumes}")
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] in EXTRA_OF:
        package = str(error.name).split(".")[0]
        return MissingExtraError(package, EXTRA_OF[package])
    if isinstance(error, OSError) and error.errno in _FULL:
        from fenghuo.rundir import disk_error

        # A write has no name, unlike an open: it was in the run, or else to stdout.
        place = Path(error.filename) if error.filename else log and log.parent
        return disk_error(place, error) if place else DiskError(f"cannot write stdout: {error.strerror}")
    if isinstance(error, OSError) and error.errno in _PATH and error.filename is not None:
        return UsageError(f"{os.fsdecode(error.filename)}: {error.strerror}")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return FenghuoError(
            f"out of memory: {str(error).splitlines()[0] if str(error) else 'the system gave no more'}"
        )
    return FenghuoError(f"internal error: {type(error).__name__}: {error}; {_keep_traceback(error, log)}")


def _keep_traceback(error: BaseException, log: Path | None) -> str:
    if log is not None:
        with suppress(OSError), log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {''.join(traceback.format_exception(error))}")
            return f"the traceback is in {log}"
    return "FENGHUO_TRACEBACK=1 shows the traceback"
