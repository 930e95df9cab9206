"""Pickles, read without running anything that is in them.

A pickle is a program: it names functions and classes, and calls them. This machine follows the program and makes
no such call. What it names stays a name, what it calls is looked up in a table that the reader gives, and a name
that is not in that table refuses the file. No module is imported and no class of the file is made.

It also reads no long run of bytes: where one stands is enough to fetch an array later. (Python's own unpickler
would read everything, and asks for as much memory as a damaged memo index says.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from mmap import mmap
from pathlib import Path

from fenghuo.errors import ModelError
from fenghuo.models.released.machine import Machine, UnlistedError, UnsafeError

Calls = Mapping[str, Callable[..., object]]
"""Dotted name → what stands for a call of it. A name that is never called is there too."""


def unpickle(
    data: mmap | bytes,
    start: int,
    end: int,
    *,
    path: Path,
    calls: Calls,
    persistent: Callable[[object], object] | None = None,
) -> tuple[object, int]:
    """The value of the pickle in data[start:end], and the place after it.

    Values are plain (dict, list, tuple, str, bytes, numbers), `Global`, `Span`, `Inert`, or what `calls` and
    `persistent` gave; a set comes as a list. Memory: about 100 bytes a step of the pickle, and no arrays.

    Raises:
        ModelError: damaged; a name outside `calls`.
    """
    machine = Machine(data, start, end, calls, persistent)
    try:
        return machine.run(), machine.at
    except UnlistedError as problem:
        raise refusal(path, str(problem), data) from None
    except UnsafeError as problem:
        raise ModelError(f"{path}: {problem}; nothing in it was executed") from problem
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as problem:
        raise ModelError(
            f"{path}: damaged at byte {machine.at:,}, or no pickle of weights; nothing in it was executed"
        ) from problem


def refusal(path: Path, called: str, data: mmap | bytes) -> ModelError:
    """Why a pickle that names `called` is not read."""
    if data.find(b"_parameters") >= 0 and data.find(b"_buffers") >= 0:
        return whole_model(path, called)
    return ModelError(
        f"{path}: a pickle that is not safe to read: it calls {called}, which weights have no need of; nothing "
        "in it was executed. Take the model as safetensors, or have it converted where its source is trusted"
    )


def whole_model(path: Path, called: str) -> ModelError:
    """Why `torch.save(model)` is not read, for a model of the class `called`."""
    return ModelError(
        f"{path}: a whole pickled model, with its classes ({called}), not a table of weights; nothing in it was "
        "executed. Where its source is trusted, load it with the code that made it and save model.state_dict()"
    )
