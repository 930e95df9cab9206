"""Documents on their way through the passes, and on disk between two: one reading and one cleaning serve both.

The file is zstd over JSON lines; a line holds many documents, their texts as one and what else is known of them by its
name: taken apart one by one, short documents would cost more than cleaning them.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Self

from fenghuo.corpus.packed import unpacked
from fenghuo.errors import import_extra
from fenghuo.rundir import file_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TOGETHER = 1 << 18  # characters


@dataclass(slots=True)  # datatrove's Document takes six times as long to make, and each is made twice
class Text:
    """A document."""

    text: str
    source: str  # its file
    range: int  # number of the file's range in its task
    line: int  # from 1, in that range
    signature: bytes = b""  # see `signature.signature`; empty where no pass signs


def length(one: Text) -> int:
    """Its characters."""
    return len(one.text)


class Writer:
    """A file of documents, whole or absent. Raises DiskError."""

    def __init__(self, path: Path) -> None:
        self._packer = import_extra("zstandard", "train").ZstdCompressor(level=1)
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

    def add(self, one: Text) -> None:
        """One document more."""
        self._texts.append(one)
        self._characters += len(one.text)
        if self._characters >= _TOGETHER:
            self._write()

    def _write(self) -> None:
        line = json.dumps(
            {
                "text": "".join([one.text for one in self._texts]),
                "length": [len(one.text) for one in self._texts],
                "source": [one.source for one in self._texts],
                "range": [one.range for one in self._texts],
                "line": [one.line for one in self._texts],
                "signature": [one.signature.hex() for one in self._texts],
            },
            ensure_ascii=False,
        )
        self._file.write((line + "\n").encode("utf-8", "surrogatepass"))
        self._forget()

    def _forget(self) -> None:
        self._texts: list[Text] = []
        self._characters = 0


def read(path: Path) -> Iterator[Text]:
    """The documents, in order. Raises DataError where the file is damaged."""
    with path.open("rb") as raw, unpacked(raw, ".zst", str(path)) as stream:
        for line in stream:
            found = json.loads(line.decode("utf-8", "surrogatepass"))
            text = found["text"]
            parts = [text[begin:end] for begin, end in pairwise(accumulate(found["length"], initial=0))]
            signatures = map(bytes.fromhex, found["signature"])
            columns = parts, found["source"], found["range"], found["line"], signatures
            for values in zip(*columns, strict=True):
                yield Text(*values)
