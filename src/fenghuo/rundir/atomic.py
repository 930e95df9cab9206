"""Files and folders that are whole or absent, whenever the process is killed and however full the disk is."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fenghuo.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedWriter

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENODEV, errno.ENXIO}
_NOT_OF_ROOM = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
# Beside the target, hidden, so that a killed writer's leftovers are told from results.
_TEMPORARY, _ASIDE = ".writing-", ".replaced-"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader, at any moment and after any crash, sees the old bytes or the new ones.

    Missing folders above are made. Text is UTF-8, in which a lone surrogate, as of a file name in GBK, is spelled as
    JSON spells it.

    Raises:
        DiskError: the system refused; the old file, if there was one, is untouched.
    """
    with file_atomic(path) as file:
        file.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data)


@contextmanager
def file_atomic(path: Path) -> Iterator[BufferedWriter]:
    """A file to be written bit by bit, which takes the place of `path` when it is whole; else nothing changes.

    Raises:
        DiskError: the system refused; the old file, if there was one, is untouched.
    """
    beside = _beside(path, _TEMPORARY)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of a value as indented JSON; a number that is not finite becomes null."""
    write_atomic(path, json.dumps(finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


@contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path`, which then takes the place of `path` at once; on an error nothing changes.

    Raises:
        DiskError: also where the code inside the `with` ran into a full or read-only disk.
    """
    beside = _beside(path, _TEMPORARY)
    try:
        beside.mkdir(parents=True)
        yield beside
        _fsync_tree(beside)
        _put_in_place(beside, path)
    except Exception as error:
        # A writer inside told of its own file; that one is about to go, and the user knows only `path`.
        told = error.__cause__ if isinstance(error, DiskError) else error
        if isinstance(told, Exception) and _is_of_disk(told):
            raise disk_error(path, told) from told
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in `folder`; put back what was moved aside and not yet replaced."""
    for leftover in sorted(folder.glob(".*")) if folder.is_dir() else ():
        for mark in (_TEMPORARY, _ASIDE):
            name, found, _ = leftover.name[1:].rpartition(mark)
            if not found:
                continue
            if mark == _ASIDE and not (folder / name).exists():
                os.replace(leftover, folder / name)
            elif leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Fingerprint, in hexadecimal, of a file's bytes or of a folder's names and bytes.

    Hidden files of a folder do not count: they are locks and leftovers. Raises OSError for an absent path.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for name, file_path in sorted((one.relative_to(path).as_posix(), one) for one in path.rglob("*")):
        if file_path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            total.update(f"{name}\0{sha256_of(file_path)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def disk_error(path: Path, error: Exception) -> DiskError:
    """The message of a write that failed: the path, the reason, and how much room is left where that may be it."""
    number = _errno(error)
    told = os.strerror(number) if number else str(error) or type(error).__name__
    reason = getattr(error, "strerror", None) or told
    room = "" if number in _NOT_OF_ROOM else _free_space(path)
    return DiskError(f"cannot write {path}: {reason}{room}")


def finite(value: Any) -> Any:
    """`value` with None for each number, however deep, that is infinite or no number."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` (a rename, a new file) outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def _beside(path: Path, mark: str) -> Path:
    return path.parent / f".{path.name}{mark}{secrets.token_hex(4)}"


def _put_in_place(new: Path, path: Path) -> None:
    old = _beside(path, _ASIDE)
    replaces = path.exists()
    if replaces:
        # A folder cannot be renamed over a full one. A kill between the two renames is mended by `sweep`.
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if replaces:
            os.replace(old, path)
        raise
    fsync_folder(path.parent)
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    elif replaces:
        old.unlink(missing_ok=True)


def _fsync_tree(folder: Path) -> None:
    for one in folder.rglob("*"):
        if one.is_dir():
            fsync_folder(one)
        elif one.is_file():
            with one.open("rb") as file:
                os.fsync(file.fileno())
    fsync_folder(folder)


def _is_of_disk(error: Exception) -> bool:
    return _errno(error) in _DISK or "No space left on device" in str(error)  # torch tells by text alone


def _errno(error: Exception) -> int | None:
    """Also where Rust tells it, as in safetensors, whose exceptions have no number but a text."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    number: int | None = getattr(error, "errno", None)
    return int(told[1]) if number is None and told else number


def _free_space(path: Path) -> str:
    for folder in (path, *path.parents):
        with suppress(OSError):
            free_bytes = shutil.disk_usage(folder).free
            return f" ({free_bytes / 1e6:,.1f} MB free on that disk)"
    return ""
