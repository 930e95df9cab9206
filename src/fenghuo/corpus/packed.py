"""Unpacking .gz and .zst, with damage noticed: a stream that ends early is no shorter text."""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from fenghuo.errors import DataError, import_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKED = {".gz": 4, ".zst": 4}  # and by how much they swell, about
_CHUNK_BYTES = 1 << 16


@contextmanager
def unpacked(raw: IO[bytes], suffix: str, path: str) -> Iterator[IO[bytes]]:
    """The bytes inside `raw`. Raises DataError, also while they are read, where the packing is damaged."""
    try:
        if suffix == ".gz":
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw))
        elif suffix == ".zst":
            yield io.BufferedReader(_Zstandard(raw))
        else:
            yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise DataError(f"{path}: damaged {suffix} file: {problem}") from problem


class _Zstandard(io.RawIOBase):
    """Frame after frame; the package's own reader takes a truncated frame for the end."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._package = raw, import_extra("zstandard", "train")
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._ready:
            data = self._packed or self._raw.read(_CHUNK_BYTES)
            if not data:
                if self._frame is not None:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            self._unpack(data)
        view = memoryview(target).cast("B")
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpack(self, data: bytes) -> None:
        self._frame = self._frame or self._package.ZstdDecompressor().decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(data))
        except self._package.ZstdError as problem:
            raise EOFError(str(problem)) from problem
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
