"""Tensors as torch's pickles describe them: every so many values of a storage that they may share."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.released.arrays import PLAIN_CALLS, checked_shape, fill, typed
from fenghuo.models.released.machine import Global, Inert, Span
from fenghuo.models.released.pickled import Calls, whole_model

_STORAGES = {
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


@dataclass(slots=True, eq=False)
class Storage:
    """A run of values that one or more tensors share; where it stands is known once the file's end is read."""

    key: str
    dtype: torch.dtype
    values: int
    start: int = -1
    crc: int = 0
    """0 where there is none: the older form, and torch told to compute none."""


@dataclass(frozen=True, slots=True, eq=False)
class Strided:
    """A tensor: every so many values of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Strided:
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise TypeError
    return Strided(storage, offset, size, stride)


def _parameter(data: object, *_: object) -> object:
    return data


_BUILTINS = (set, frozenset, list, dict, tuple, int, float, str, bool, complex, slice, range, bytearray)
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
CALLS: Calls = {
    **PLAIN_CALLS,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    # Settings that training scripts keep beside the weights. They stay what the pickle says of them.
    **dict.fromkeys(
        (
            *(f"torch.{place}{name}" for name in _STORAGES for place in ("", "cuda.")),
            *(str(dtype) for dtype in _STORAGES.values()),
            *(f"builtins.{kind.__name__}" for kind in _BUILTINS),
            *(
                f"pathlib.{place}{kind}" for kind in _PATHS for place in ("", "_local.")
            ),  # _local: Python 3.13
            *("torch.Size", "torch.device", "argparse.Namespace", "numpy._core.multiarray.scalar"),
        ),
        Inert,
    ),
    "collections.defaultdict": lambda *_: {},
    "collections.Counter": lambda *_: {},
}


class Storages:
    """The storages that a file's pickle names, by key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_key: dict[str, Storage] = {}

    def __call__(self, given: object) -> Storage:
        if not isinstance(given, tuple):
            raise TypeError
        if given[0] == "module":  # the older form keeps the source of a model's classes
            raise whole_model(self.path, given[1].name if isinstance(given[1], Global) else "unknown")
        _, kind, key, _, values, *view = given
        dtype = _STORAGES[kind.name.rpartition(".")[2]]
        if given[0] != "storage" or type(values) is not int or values < 0 or any(view):
            raise ValueError
        storage = self.by_key.setdefault(str(key), Storage(str(key), dtype, values))
        if (storage.dtype, storage.values) != (dtype, values):
            raise ValueError
        return storage


def checked(path: Path, name: str, array: Strided) -> Strided:
    """`array`, checked against the values of its storage.

    Raises:
        ModelError: it claims more than there are, or a shape that is none.
    """
    size = checked_shape(path, name, array.size)
    stride = checked_shape(path, name, array.stride)
    if len(size) != len(stride) or array.offset < 0:
        raise ModelError(f"{path}: {name}: the shape is damaged")
    # A stride of 0 could make a table of any size from one value: refused, as no weights need it.
    needed = max(array.offset + _reach(size, stride), math.prod(size))
    if needed > array.storage.values:
        raise ModelError(
            f"{path}: {name}: claims {needed:,} values, and the file holds {array.storage.values:,} for it"
        )
    return Strided(array.storage, array.offset, size, stride)


def _reach(size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """How many values from a tensor's first to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if math.prod(size) else 0


def read_strided(path: Path, name: str, array: Strided) -> Tensor:
    """The tensor, contiguous and in memory of its own.

    Raises:
        ModelError: the bytes are damaged or gone.
    """
    storage, values = array.storage, _reach(array.size, array.stride)
    width = storage.dtype.itemsize
    raw = torch.empty(values * width, dtype=torch.uint8)
    fill(path, name, Span(storage.start + array.offset * width, len(raw)), raw)
    # The sum is of the whole storage: it can tell nothing of a part.
    if storage.crc and values == storage.values and zlib.crc32(raw.numpy().data) != storage.crc:
        raise ModelError(f"{path}: {name}: the bytes differ from those that were written")
    return typed(raw, storage.dtype).as_strided(array.size, array.stride).contiguous()
