"""Paddle's weights → named arrays, and named arrays → what Paddle loads. Paddle itself is not needed.

Two layouts: a .pdparams file, which is a pickle of numpy arrays (paddle.save, fluid.save_dygraph, fluid.save), and
a folder with a file a variable (fluid.io.save_persistables), as Baidu released its early models.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.released.arrays import (
    PLAIN_CALLS,
    NumpyArray,
    Place,
    checked_shape,
    place_of,
    read_place,
)
from fenghuo.models.released.nested import find_table
from fenghuo.models.released.paddle_write import write_paddle as write_paddle
from fenghuo.models.released.persistable import MARK, find_values
from fenghuo.models.released.pickled import Calls, unpickle
from fenghuo.models.released.stored import Stored

SLICED = "UnpackBigParamInfor@@"
"""Paddle's key for arrays above 1 GiB, which it cuts before protocol 4: {name: {"OriginShape", "slices"}}."""


def _named(pair: tuple[str, NumpyArray]) -> NumpyArray:
    """`tuple((name, values))`: a tensor, where it stands deeper than in the outermost table."""
    name, array = pair
    if not isinstance(name, str) or not isinstance(array, NumpyArray):
        raise TypeError
    return array


CALLS: Calls = {**PLAIN_CALLS, "builtins.tuple": _named}


def read_paddle(path: Path) -> Stored:
    """The arrays of a .pdparams file, or of a folder with a file a variable, by name.

    Of a pickle, it is the outermost table, or that under "model" and the like (`find_table`). In a folder, a
    variable's name is the file's, with "/" where it stands deeper. 16 bits without a sign are bfloat16: numpy has
    no name for it, and Paddle's own loader does the same. What holds no numbers is named in `skipped`; the slots
    of an optimizer (`…_moment1_0`) are arrays like others. Nothing of the file is executed (`unpickle`).

    Raises:
        ModelError: absent or damaged; a pickle that calls anything beyond numpy's arrays; an array that claims
            more than the file holds; several arrays in one file without names (.pdiparams, `__params__`).
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():  # opening a pipe would wait for its other end
        raise ModelError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            if file.read(len(MARK)) == MARK:
                raise _without_names(path)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                value, _ = unpickle(data, 0, len(data), path=path, calls=CALLS)
    except (OSError, ValueError) as problem:  # ValueError: an empty file
        raise ModelError(f"{path}: cannot be read ({problem})") from problem
    table, beside = find_table(path, value, _is_array)
    places = {name: _place(path, name, one) for name, one in table.items()}
    joined = _joined(path, value[SLICED], places) if isinstance(value, Mapping) and SLICED in value else {}
    parts = {part for _, names in joined.values() for part in names}
    shapes = {name: place.shape for name, place in places.items() if name not in parts}
    shapes |= {name: shape for name, (shape, _) in joined.items()}

    def read(name: str) -> Tensor:
        if name not in joined:
            return read_place(path, name, places[name])
        shape, names = joined[name]
        values = torch.empty(math.prod(shape), dtype=places[names[0]].dtype)
        done = 0
        for part in names:
            piece = read_place(path, part, places[part])
            values[done : done + len(piece)] = piece
            done += len(piece)
        return values.reshape(shape)

    return Stored(path=path, format="paddle", shapes=shapes, read=read, skipped=tuple(beside))


def _is_array(value: object) -> bool:
    return isinstance(value, NumpyArray) and value.dtype is not None


def _place(path: Path, name: str, array: object) -> Place:
    assert isinstance(array, NumpyArray)
    place = place_of(path, name, array)
    if place.dtype != torch.uint16:
        return place
    return Place(shape=place.shape, dtype=torch.bfloat16, data=place.data, fortran=place.fortran)


def _joined(
    path: Path, told: object, places: Mapping[str, Place]
) -> dict[str, tuple[tuple[int, ...], list[str]]]:
    """Name → shape and parts of each array that was cut; the parts are flat, of one type, and make it up."""
    out: dict[str, tuple[tuple[int, ...], list[str]]] = {}
    for name, one in told.items() if isinstance(told, Mapping) else ():
        given = one.get("slices") if isinstance(one, Mapping) else None
        parts = given if isinstance(given, list) and all(isinstance(part, str) for part in given) else []
        if not parts or name in places or not places.keys() >= set(parts):
            raise ModelError(f"{path}: {str(name)[:80]}: a part of it is missing")
        shape = checked_shape(path, name, one.get("OriginShape"))
        pieces = [places[part] for part in parts]
        if any(len(piece.shape) != 1 or piece.dtype != pieces[0].dtype for piece in pieces):
            raise ModelError(f"{path}: {name}: its parts do not fit together")
        if sum(piece.shape[0] for piece in pieces) != math.prod(shape):
            raise ModelError(f"{path}: {name}: its parts do not make up the shape {shape}")
        out[name] = (shape, parts)
    return out


def _read_folder(folder: Path) -> Stored:
    places, skipped = {}, []
    for above, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(above, file)
            name = path.relative_to(folder).as_posix()
            if not is_variable(path):
                skipped.append(name)
                continue
            places[name], left = find_values(path, name)
            if left:
                raise _without_names(path)
    if not places:
        raise ModelError(f"{folder}: holds no variables of Paddle, which are files of their own")
    return Stored(
        path=folder,
        format="paddle",
        shapes={name: place.shape for name, place in places.items()},
        read=lambda name: read_place(folder / name, name, places[name]),
        skipped=tuple(skipped),
    )


def is_variable(path: Path) -> bool:
    """Whether the file begins as a variable of Paddle does."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


def _without_names(path: Path) -> ModelError:
    return ModelError(
        f"{path}: arrays of Paddle without names (.pdiparams, or saved with a filename), or one array with bytes "
        "too many. Needed: a .pdparams file, or the folder with a file a variable"
    )
