"""Lines that could not be read, on their way to `bad_lines.jsonl`: there may be as many of them as of others."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from fenghuo.rundir import file_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedWriter
    from pathlib import Path

    from fenghuo.corpus.places import Places
    from fenghuo.corpus.read import BadLine


class Aside:
    """A file of one part's bad lines, which there is if there are any. Raises DiskError."""

    def __init__(self, path: Path) -> None:
        self._path, self._stack = path, ExitStack()
        self._file: BufferedWriter | None = None
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._stack.__exit__(*problem)

    def add(self, number: int, bad: BadLine) -> None:
        """One more, of the part's range with this number."""
        self._file = self._file or self._stack.enter_context(file_atomic(self._path))
        found = [number, bad.line, bad.source, bad.reason, bad.excerpt]
        self._file.write(json.dumps(found).encode() + b"\n")
        self.count += 1


def put_together(target: Path, parts: Sequence[Path], places: Places) -> None:
    """One JSON object a line: file, line in it, reason, excerpt. Raises DiskError.

    Args:
        parts: what `Aside` wrote of each part, or did not write.
    """
    with file_atomic(target) as file:
        for part, path in enumerate(parts):
            if not path.exists():
                continue
            with path.open("rb") as lines:
                for one in map(json.loads, lines):
                    number, line, source, reason, excerpt = one
                    found = {
                        "file": source,
                        "line": places.line(part, number, line),
                        "reason": reason,
                        "excerpt": excerpt,
                    }
                    # A lone surrogate, as of a file name in GBK, is spelled as JSON spells it.
                    text = json.dumps(found, ensure_ascii=False) + "\n"
                    file.write(text.encode(errors="backslashreplace"))
