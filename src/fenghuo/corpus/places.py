"""Which line of its file something is that stands in a part of it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from fenghuo.corpus.read import count_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fenghuo.corpus.files import Range, TextFile


class Places:
    """Counts a file's lines up to a part when they are asked for, and then remembers them."""

    def __init__(self, parts: Sequence[tuple[Range, ...]]) -> None:
        self._parts = parts
        files: dict[TextFile, dict[int, Range]] = {}
        for group in parts:
            for one in group:
                files.setdefault(one.file, {})[one.begin] = one
        self._files = {file: _Lines(ranges.values()) for file, ranges in files.items()}

    def line(self, part: int, number: int, line: int) -> int:
        """The line, from 1, in the file, of what is a line of the part's range with this number."""
        here = self._parts[part][number]
        return line + self._files[here.file].before(here.begin)


class _Lines:
    """A file's ranges, and how many lines stand before each."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = sorted(ranges, key=lambda one: one.begin)
        self._begins = [one.begin for one in self._ranges]
        self._before = [0]

    def before(self, begin: int) -> int:
        place = bisect_left(self._begins, begin)
        while len(self._before) <= place:
            self._before.append(self._before[-1] + count_lines(self._ranges[len(self._before) - 1]))
        return self._before[place]
