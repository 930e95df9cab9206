"""Which line of its file something is that stands in a part of it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fenghuo.corpus.read import count_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fenghuo.corpus.files import Range


class Places:
    """Counts the lines before a part when they are asked for, and then remembers them."""

    def __init__(self, parts: Sequence[tuple[Range, ...]]) -> None:
        self._parts = parts
        self._lines_of = cache(count_lines)

    def line(self, part: int, number: int, line: int) -> int:
        """The line, from 1, in the file, of what is a line of the part's range with this number."""
        here = self._parts[part][number]
        before = [
            one for group in self._parts for one in group if one.file == here.file and one.begin < here.begin
        ]
        return line + sum(map(self._lines_of, before))
