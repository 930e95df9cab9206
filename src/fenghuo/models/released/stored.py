"""What every reader gives: the named arrays of a file, not read yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

Format = Literal["safetensors", "pytorch", "tensorflow", "paddle"]


@dataclass(frozen=True, kw_only=True)
class Stored(Mapping[str, Tensor]):
    """Named arrays under the names and in the layout that the file has; nothing is transposed or renamed.

    What there is, is known at once, and was checked against the file's size: a shape that the file cannot hold
    is an error before any memory is asked for. An array is read when it is looked up.
    """

    path: Path
    """The file, or the prefix of a checkpoint, as errors should name it."""
    format: Format
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor] = field(repr=False)
    """Gives one array, in the file's own number type; it raises ModelError where the bytes are damaged."""
    skipped: tuple[str, ...] = ()
    """Names in the file that are no arrays of numbers."""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Plain values that the file holds beside the arrays, such as XLM's `params`."""

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)
