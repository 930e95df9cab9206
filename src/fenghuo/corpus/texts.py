"""Cleaned documents on disk between two passes: one reading and one cleaning serve both."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from fenghuo.rundir import file_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TOGETHER = 1 << 20  # characters held at once


class Writer:
    """A file of documents, whole or absent. Raises DiskError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._writer: Any = None
        self._forget()

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(file_atomic(self._path))
        return self

    def add(self, text: str, metadata: dict[str, Any]) -> None:
        """One document more; all have the same keys."""
        self._texts.append(text)
        self._metadata.append(metadata)
        self._length += len(text)
        if self._length >= _TOGETHER:
            self._write()

    def __exit__(self, *problem: Any) -> None:
        if problem[0] is None and (self._texts or self._writer is None):
            self._write()
        if self._writer is not None:
            self._writer.close()
        self._stack.__exit__(*problem)

    def _write(self) -> None:
        columns = {"text": pa.array(self._texts, pa.large_string())}
        for key in self._metadata[0] if self._metadata else ():
            columns[key] = pa.array([one[key] for one in self._metadata])
        batch = pa.record_batch(columns)
        if self._writer is None:
            packed = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writer = pa.ipc.new_stream(self._file, batch.schema, options=packed)
        self._writer.write_batch(batch)
        self._forget()

    def _forget(self) -> None:
        self._texts: list[str] = []
        self._metadata: list[dict[str, Any]] = []
        self._length = 0


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents, in order, with what else was kept of them."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as batches:
        for batch in batches:
            names = batch.schema.names[1:]
            others = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
            for text, values in zip(batch.column("text").to_pylist(), others, strict=True):
                yield text, dict(zip(names, values, strict=True))
