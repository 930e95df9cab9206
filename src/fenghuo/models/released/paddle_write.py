"""Named arrays → files that Paddle loads. Paddle itself is not needed."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

import torch
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.released.arrays import NUMPY_TYPES
from fenghuo.models.released.persistable import header
from fenghuo.rundir import disk_error, folder_atomic
from fenghuo.rundir.atomic import fsync_folder

_CODES = {dtype: code for code, dtype in NUMPY_TYPES.items() if code[0] != "u" or code == "u1"}
_CODES[torch.bfloat16] = "u2"  # numpy has no name for it, and Paddle takes 16 bits without a sign for it
_WINDOWS = re.compile(r"[\\:*?\"<>|\0]")


def write_paddle(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write `arrays` so that Paddle reads them under the same names, one array in memory at a time.

    Args:
        path: ends in .pdparams: one file, for paddle.load. Else a folder, new or empty: a file a variable, for
            paddle.static.load_vars, fluid.io.load_persistables, or paddle.load of the folder.
        arrays: may be `Stored`, whose arrays are read one after another.

    Raises:
        ModelError: numbers that Paddle does not keep; a name that is no file's; a folder that is not empty.
        DiskError: the system refused; what was there before is untouched.
    """
    if path.suffix == ".pdparams":
        with _replacing(path) as file:
            file.write(b"\x80\x04}")
            for name, array in arrays.items():
                _pickle(file, path, name, array)
            file.write(b".")
        return
    names = _file_names(path, list(arrays))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ModelError(f"{path}: holds something already; Paddle's variables need a folder of their own")
    with folder_atomic(path) as folder:
        for name in names:
            array = arrays[name]
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as file:
                file.write(header(path, name, array.dtype, tuple(array.shape)))
                file.write(_raw(array))


def _raw(array: Tensor) -> memoryview:
    """The values' bytes, in the order of C; a copy only where they do not stand so already."""
    flat = array.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)


def _pickle(file: BufferedWriter, path: Path, name: str, array: Tensor) -> None:
    """What numpy would write for {name: array} in protocol 4, without a copy of the values.

    numpy.core is where both numpy 1 and 2 find it.
    """
    if array.dtype not in _CODES:
        raise ModelError(f"{path}: {name}: Paddle keeps no numbers of type {array.dtype}")
    code = _CODES[array.dtype].encode()
    order = b"|" if array.dtype.itemsize == 1 else b"<"
    raw = _raw(array)
    file.write(_text(name.encode()))
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R")
    file.write(
        b"(K\x01(" + b"".join(b"\x8a\x08" + struct.pack("<q", extent) for extent in array.shape) + b"t"
    )
    file.write(b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R")
    file.write(b"(K\x03" + _text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89")
    file.write(b"\x8e" + struct.pack("<Q", len(raw)))
    file.write(raw)
    file.write(b"tbs")


def _text(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def _file_names(path: Path, names: list[str]) -> list[str]:
    """The names, each checked to be that of a file below the folder, and none that of another's folder."""
    seen: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        if _WINDOWS.search(name) or any(
            part in ("", ".", "..") or len(part.encode()) > 250 for part in parts
        ):
            raise ModelError(f"{path}: {name!r} is no name of a file")
        if name.lower() in seen:
            raise ModelError(f"{path}: {name!r} and {seen[name.lower()]!r} are one file on some disks")
        seen[name.lower()] = name
    for name in seen:
        above = next((one for one in map(str, Path(name).parents) if one in seen), None)
        if above is not None:
            raise ModelError(f"{path}: {seen[above]!r} would be a file, and the folder of {seen[name]!r}")
    return names


@contextmanager
def _replacing(path: Path) -> Iterator[BufferedWriter]:
    """A file that takes the place of `path` when it is whole; `write_atomic` would need it all in memory."""
    beside = path.parent / f".{path.name}.writing-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
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
