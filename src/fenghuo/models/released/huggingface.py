"""Safetensors files, files in several parts, and model folders → named arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.released.arrays import checked_shape
from fenghuo.models.released.paddle import is_variable, read_paddle
from fenghuo.models.released.pytorch import read_pytorch
from fenghuo.models.released.stored import Format, Stored

_MOST_INDEX_BYTES = 1 << 28
_NO_WEIGHTS = re.compile(r"training_args|optimizer|scheduler|rng_state|scaler|trainer_state")
"""What trainers put beside the weights, in files of the same kinds."""


def read_safetensors(path: Path) -> Stored:
    """The arrays of a safetensors file, by name.

    Raises:
        ModelError: absent, damaged, or of another kind; numbers that torch does not have.
    """
    try:
        file: Any = safe_open(path, framework="pt")
        claimed = {name: file.get_slice(name).get_shape() for name in list(file.keys())}
    except (SafetensorError, OSError, ValueError, OverflowError, TypeError) as problem:
        raise ModelError(f"{path}: damaged, or not a safetensors file ({problem})") from problem
    shapes = {name: checked_shape(path, name, shape) for name, shape in claimed.items()}

    def read(name: str) -> Tensor:
        try:
            # A copy: what safetensors gives is the file itself, and would end the process if that were cut short.
            tensor: Tensor = file.get_tensor(name).clone()
        except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as problem:
            raise ModelError(f"{path}: {name}: cannot be read ({problem})") from problem
        return tensor

    return Stored(path=path, format="safetensors", shapes=shapes, read=read)


def read_index(path: Path) -> Stored:
    """The arrays of a model in several files, told of by its `….index.json`.

    The files stand beside the index, or below. An array that the index does not name is left out, and named in
    `skipped` as "file: name".

    Raises:
        ModelError: the index is absent or damaged; a file that is missing or stands elsewhere; a name that is not
            in the file it is said to be in; what `read_safetensors` and `read_pytorch` raise.
    """
    files = _file_of_each(path)
    parts: dict[str, Stored] = {}
    for file in sorted(set(files.values())):
        if not (path.parent / file).is_file():
            raise ModelError(f"{path}: the file {file} is missing")
        read = read_safetensors if file.endswith(".safetensors") else read_pytorch
        parts[file] = read(path.parent / file)
    for name, file in files.items():
        if name not in parts[file]:
            raise ModelError(f"{path}: {name} is not in {file}, where the index has it")
    extra = [f"{file}: {name}" for file, part in parts.items() for name in part if files.get(name) != file]
    formats: set[Format] = {part.format for part in parts.values()}
    if len(formats) > 1:
        raise ModelError(f"{path}: its files are of several kinds")
    return Stored(
        path=path,
        format=formats.pop(),
        shapes={name: parts[file].shapes[name] for name, file in files.items()},
        read=lambda name: parts[files[name]].read(name),
        skipped=(*extra, *(f"{file}: {name}" for file, part in parts.items() for name in part.skipped)),
    )


def _file_of_each(path: Path) -> dict[str, str]:
    """Name of an array → its file, below the index's folder."""
    try:
        if path.stat().st_size > _MOST_INDEX_BYTES:
            raise ValueError("too large for an index")
        index = json.loads(path.read_bytes())
        files = index["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ModelError(f"{path}: not an index of weight files ({problem!r})") from problem
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise ModelError(f"{path}: not an index of weight files")
    for file in set(files.values()):
        away = (
            PurePosixPath(file).is_absolute()
            or ".." in PurePosixPath(file).parts
            or re.search(r"[\\:\0]", file)
        )
        if away or not file:
            raise ModelError(f"{path}: the file {file!r} is not below the index's folder")
    return files


def read_folder(folder: Path) -> Stored:
    """The arrays of a model's folder.

    The first of: model.safetensors, its index, pytorch_model.bin, its index, model_state.pdparams, another
    .pdparams, another .safetensors, .bin, .pt or .pth, a TensorFlow checkpoint, Paddle's variables, a file each.

    Raises:
        ModelError: none of them; several of a kind, and nothing tells which; what the readers raise.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    for name, read in _FIXED.items():
        if (folder / name).is_file():
            return read(folder / name)
    names = sorted(one.name for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    for pattern, read in _KINDS.items():
        found = [name for name in names if re.fullmatch(pattern, name) and not _NO_WEIGHTS.match(name)]
        if len(found) > 1:
            raise ModelError(
                f"{folder}: several files may hold the weights; name one: {', '.join(found[:8])}"
            )
        if found:
            return read(folder / found[0])
    if any(is_variable(folder / name) for name in names):
        return read_paddle(folder)
    raise ModelError(
        f"{folder}: no weights that can be read (safetensors, PyTorch, Paddle or a TensorFlow checkpoint). "
        f"Found: {', '.join(names[:8]) or 'no files'}"
    )


def read_checkpoint(path: Path) -> Stored:
    """The arrays of a TensorFlow checkpoint, by its prefix or its .index file."""
    from fenghuo.models.released.tensorflow import read_tensorflow

    return read_tensorflow(path.with_suffix("") if path.suffix == ".index" else path)


_FIXED: Mapping[str, Callable[[Path], Stored]] = {
    "model.safetensors": read_safetensors,
    "model.safetensors.index.json": read_index,
    "pytorch_model.bin": read_pytorch,
    "pytorch_model.bin.index.json": read_index,
    "model_state.pdparams": read_paddle,
}
_KINDS: Mapping[str, Callable[[Path], Stored]] = {
    r".*\.pdparams": read_paddle,
    r".*\.(safetensors|bin|pt|pth)\.index\.json": read_index,
    r".*\.safetensors": read_safetensors,
    r".*\.(bin|pt|pth)": read_pytorch,
    r".*\.index": read_checkpoint,
}
