"""Cleaned documents on disk between two passes, so that one reading and one cleaning serve both.

A zstd file of JSON lines; a line holds many documents, their texts as one and what else is known of them by key: taken
apart one by one, short documents would cost more than cleaning them.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from importlib import import_module
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Self

from fenghuo.corpus.packed import unpacked
from fenghuo.errors import MissingExtraError
from fenghuo.rundir import file_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TOGETHER = 1 << 18  # characters


class Writer:
    """A file of documents, whole or absent. Raises DiskError."""

    def __init__(self, path: Path) -> None:
        try:
            self._packer: Any = import_module("zstandard").ZstdCompressor(level=1)
        except ModuleNotFoundError as problem:
            raise MissingExtraError("zstandard", "train") from problem
        self._path, self._stack = path, ExitStack()
        self._forget()

    def __enter__(self) -> Self:
        file = self._stack.enter_context(file_atomic(self._path))
        self._file = self._stack.enter_context(self._packer.stream_writer(file, closefd=False))
        return self

    def __exit__(self, *problem: Any) -> None:
        if problem[0] is None and self._texts:
            self._write()
        self._stack.__exit__(*problem)

    def add(self, text: str, about: dict[str, Any]) -> None:
        """One document more, with what JSON can hold; all have the same keys."""
        self._texts.append(text)
        self._about.append(about)
        self._characters += len(text)
        if self._characters >= _TOGETHER:
            self._write()

    def _write(self) -> None:
        about = {key: [one[key] for one in self._about] for key in self._about[0]}
        line = json.dumps(
            {"text": "".join(self._texts), "length": list(map(len, self._texts)), "about": about},
            ensure_ascii=False,
        )
        self._file.write((line + "\n").encode("utf-8", "surrogatepass"))
        self._forget()

    def _forget(self) -> None:
        self._texts: list[str] = []
        self._about: list[dict[str, Any]] = []
        self._characters = 0


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents, in order, with what is known of them. Raises DataError where the file is damaged."""
    with path.open("rb") as raw, unpacked(raw, ".zst", str(path)) as stream:
        for line in stream:
            found = json.loads(line.decode("utf-8", "surrogatepass"))
            text, about = found["text"], found["about"]
            values = zip(*about.values(), strict=True)
            for (begin, end), one in zip(
                pairwise(accumulate(found["length"], initial=0)), values, strict=True
            ):
                yield text[begin:end], dict(zip(about, one, strict=True))
