"""Where an array stands in a file, the checks of what it claims, and the reading of it.

Arrays that numpy pickled are told here too: Paddle's files hold nothing else, and PyTorch's hold some.
"""

from __future__ import annotations

import codecs
import io
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.released.machine import Inert, Span, UnsafeError
from fenghuo.models.released.pickled import Calls

_MOST_DIMENSIONS, _MOST_VALUES = 32, 1 << 60
_CHUNK_BYTES = 1 << 22

NUMPY_TYPES = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "u2": torch.uint16,
    "u4": torch.uint32,
    "u8": torch.uint64,
    "b1": torch.bool,
    "c8": torch.complex64,
    "c16": torch.complex128,
}


class NumpyType:
    """`numpy.dtype`, as a pickle describes it."""

    def __init__(self, code: str, *_: object) -> None:
        if code.lstrip("<>|=").startswith("O"):
            raise UnsafeError("it holds an array of Python objects, which weights have no need of")
        self.code, self.plain = code.lstrip("<|="), True

    def build(self, state: tuple[object, ...]) -> None:
        # Version, byte order, then what only arrays of records and of arrays have.
        self.plain = state[1] != ">" and state[2:5] == (None, None, None)


class NumpyArray:
    """`numpy.ndarray`, as a pickle describes it: its values stay in the file."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[object, ...] = ()

    def build(self, state: object) -> None:
        if not isinstance(state, tuple):
            raise TypeError
        self.state = state

    @property
    def dtype(self) -> torch.dtype | None:
        """None where it holds no numbers that torch has."""
        kind = self.state[2] if len(self.state) == 5 else None
        return NUMPY_TYPES.get(kind.code) if isinstance(kind, NumpyType) and kind.plain else None


def encode(text: str | Span, form: str) -> bytes | Span:
    """`_codecs.encode(text, "latin1")`, by which protocol 2 writes bytes."""
    if form not in ("latin1", "latin-1"):
        raise ValueError
    return text if isinstance(text, Span) else text.encode("latin-1")


def no_bytes() -> bytes:
    """`bytes()`, by which protocol 2 writes an empty one."""
    return b""


def ordered(pairs: list[tuple[str, object]] | tuple[()] = ()) -> dict[str, object]:
    """`collections.OrderedDict(pairs)`, whose pairs come here, or later as items of a dict."""
    return {key: value for key, value in pairs if isinstance(key, str)}


PLAIN_CALLS: Calls = {
    "numpy._core.multiarray._reconstruct": NumpyArray,
    "numpy.ndarray": Inert,
    "numpy.dtype": NumpyType,
    "_codecs.encode": encode,
    "builtins.bytes": no_bytes,
    "collections.OrderedDict": ordered,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One array of a file: values in the order of C, of `dtype`, at `data`."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    data: Span | bytes
    fortran: bool = False
    """The last dimension's values stand farthest apart."""

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def checked_shape(path: Path, name: str, claimed: object) -> tuple[int, ...]:
    """`claimed` as a shape that torch can have.

    Raises:
        ModelError: it is none.
    """
    if not isinstance(claimed, tuple | list) or len(claimed) > _MOST_DIMENSIONS:
        raise ModelError(f"{path}: {name}: the shape is damaged")
    if any(type(extent) is not int or extent < 0 for extent in claimed):
        raise ModelError(f"{path}: {name}: the shape is damaged")
    if math.prod(max(extent, 1) for extent in claimed) > _MOST_VALUES:
        raise ModelError(f"{path}: {name}: claims a shape that no file holds")
    return tuple(claimed)


def place_of(path: Path, name: str, array: NumpyArray) -> Place:
    """Where the values of `array` stand, checked against how many bytes there are.

    Bytes written as text are counted when they are read; here, that they can be as many as claimed.

    Raises:
        ModelError: they cannot; no plain numbers.
    """
    if array.dtype is None:
        raise ModelError(f"{path}: {name}: holds no plain numbers")
    _, shape, _, fortran, data = array.state
    data = data.encode("latin-1") if isinstance(data, str) else data  # Python 2
    if not isinstance(data, bytes | Span):
        raise ModelError(f"{path}: {name}: damaged")
    place = Place(
        shape=checked_shape(path, name, shape), dtype=array.dtype, data=data, fortran=fortran is True
    )
    most = len(data) if isinstance(data, bytes) else data.stored
    least = (most + 1) // 2 if isinstance(data, Span) and data.text else most
    if not least <= place.size_bytes <= most:
        raise ModelError(f"{path}: {name}: claims {place.size_bytes:,} bytes, and the file holds {most:,}")
    return place


def read_place(path: Path, name: str, place: Place) -> Tensor:
    """The array, contiguous and in memory of its own.

    Raises:
        ModelError: the bytes are damaged or gone.
    """
    raw = torch.empty(place.size_bytes, dtype=torch.uint8)
    fill(path, name, place.data, raw)
    if not place.fortran:
        return typed(raw, place.dtype).reshape(place.shape)
    return (
        typed(raw, place.dtype)
        .reshape(place.shape[::-1])
        .permute(*range(len(place.shape))[::-1])
        .contiguous()
    )


def typed(raw: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes, (n * width,) uint8, as (n,) values of `dtype`; shares the memory, but for truth values."""
    # A byte other than 0 and 1 is no truth value, and what torch makes of it is undefined.
    return raw != 0 if dtype == torch.bool else raw.view(dtype)


def fill(path: Path, name: str, data: Span | bytes, raw: Tensor) -> None:
    """Write the bytes of `data` into `raw`, (n,) uint8.

    Raises:
        ModelError: they are not exactly n; the file is gone.
    """
    target = raw.numpy().data
    try:
        if isinstance(data, bytes):
            target[:] = data
            return
        with path.open("rb") as file:
            file.seek(data.start)
            done = _fill_from_text(file, data.stored, target) if data.text else _fill(file, target)
    except (OSError, ValueError) as problem:
        raise ModelError(f"{path}: {name}: damaged ({problem})") from problem
    if done != len(target):
        raise ModelError(f"{path}: {name}: the file ends early")


def _fill(file: io.BufferedReader, target: memoryview) -> int:
    done = 0
    while done < len(target) and (count := file.readinto(target[done:])):
        done += count
    return done


def _fill_from_text(file: io.BufferedReader, stored: int, target: memoryview) -> int:
    decode, done = codecs.getincrementaldecoder("utf-8")().decode, 0
    while stored > 0 and (chunk := file.read(min(stored, _CHUNK_BYTES))):
        stored -= len(chunk)
        part = decode(chunk, stored == 0).encode("latin-1")
        target[done : done + len(part)] = part  # ValueError where it holds more than was claimed
        done += len(part)
    return done
