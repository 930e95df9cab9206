"""Files by URL, through fsspec: their names, how long they are, their bytes.

What their file systems raise, each in its own way, comes out as DataError: it is about that address.
"""

from __future__ import annotations

import glob
import io
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from fenghuo.errors import DataError, FenghuoError, import_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUFFER_BYTES = 1 << 20


def is_url(path: str) -> bool:
    """Whether it is no local path."""
    return "://" in path


def expand_url(url: str, wanted: Callable[[str], bool]) -> list[tuple[str, int | None]]:
    """(URL, bytes) of each file that a file's, folder's or pattern's URL stands for, by name.

    Bytes are None where a file can only be read from its beginning to its end: its server does not tell how long it
    is, or does not send parts of it.

    Args:
        wanted: which names in a folder to take.

    Raises:
        DataError: there is none, its protocol is unknown or needs a package, or it cannot be reached.
    """
    with _told(url):
        system, place = _file_system(url)
        if system.isdir(place):
            names = [name for name in system.find(place) if wanted(name.rsplit("/", 1)[-1])]
        elif glob.has_magic(place):
            names = [name for name in system.glob(place) if not name.rsplit("/", 1)[-1].startswith(".")]
        else:
            names = [place] if system.exists(place) else []
        if not names:
            raise DataError(f"{url}: no such file")
        return [(system.unstrip_protocol(name), _size(system, name)) for name in sorted(names)]


def open_url(url: str, size_bytes: int | None) -> IO[bytes]:
    """Its bytes, which can be sought in where `expand_url` knew its size. Raises DataError, also while it is read."""
    return io.BufferedReader(_Remote(url, seekable=size_bytes is not None), _BUFFER_BYTES)


def _size(system: Any, name: str) -> int | None:
    size: int | None = system.size(name)
    if size and name.startswith(("http://", "https://")):
        try:
            with system.open(name) as file:
                file.seek(size - 1)
                file.read(1)
        except ValueError:  # all of the file was sent, not its last byte
            return None
    return size


class _Remote(io.RawIOBase):
    """A file of fsspec's, which by itself has no `readlines` of some bytes."""

    def __init__(self, url: str, *, seekable: bool) -> None:
        self._url, self._seekable = url, seekable
        with _told(url):
            system, place = _file_system(url)
            # Without blocks, one request brings all of it.
            self._file = system.open(place, "rb", **({} if seekable else {"block_size": 0}))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def readinto(self, target: Any) -> int:
        with _told(self._url):
            data = self._file.read(len(target))
        target[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        with _told(self._url):
            found: bytes = self._file.read()
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        if not self._seekable:
            raise DataError(f"{self._url}: can only be read from beginning to end there; download it first")
        with _told(self._url):
            return int(self._file.seek(offset, whence))

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _file_system(url: str) -> tuple[Any, str]:
    system, place = import_extra("fsspec.core", "train").url_to_fs(url)
    return system, str(place)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except FenghuoError:
        raise
    except Exception as problem:
        raise DataError(f"{url}: {problem or type(problem).__name__}") from problem
