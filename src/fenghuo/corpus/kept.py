"""Where what is found out about a corpus is kept: beside its shards, or, where nothing can be written there, in the
user's cache folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path

from fenghuo.errors import DiskError
from fenghuo.progress import say
from fenghuo.rundir import disk_error

_SEALS = ".verified"


class Kept:
    """The two places of one shards folder, and the seals in them.

    A seal says that a file was found to be what was written, and is an empty file: ranks may set different ones at the
    same time.
    """

    def __init__(self, folder: Path) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
        self.places = (folder, cache / "fenghuo" / f"shards-{name}")

    @cached_property
    def place(self) -> Path:
        """Where something new is kept.

        Raises:
            DiskError: neither can be written to.
        """
        refused: list[str] = []
        for place in self.places:
            try:
                place.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=place):
                    pass
            except OSError as error:
                refused.append(f"{place} ({error.strerror})")
                continue
            if refused:
                say(f"the index of the corpus's slices is kept in {place}: cannot write to {refused[0]}")
            return place
        raise DiskError(
            f"the index of the corpus's slices has no place: cannot write to {' nor to '.join(refused)}; make one of "
            "them writable, or let XDG_CACHE_HOME name a folder that is"
        )

    def has(self, seal: str) -> bool:
        """Whether it was set."""
        return any((place / _SEALS / seal).exists() for place in self.places)

    def set(self, seal: str) -> None:
        """Set it. Raises DiskError."""
        path = self.place / _SEALS / seal
        try:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        except OSError as error:
            raise with_advice(disk_error(path, error)) from error


def seal_of(path: Path, sha256: str) -> str:
    """The seal of a file with these bytes, as long as the disk says that it has not changed. Raises OSError."""
    state = path.stat()
    return f"{path.parent.name}-{path.name}-{state.st_size}-{state.st_mtime_ns}-{sha256[:16]}"


def with_advice(problem: DiskError) -> DiskError:
    """A failed write, and what to do about it."""
    return DiskError(
        f"{problem}; the index of a corpus's slices takes 8 bytes an example, and 16 while it is made: make room there"
    )
