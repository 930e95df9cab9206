"""metrics.jsonl: one line a step, appended; a line torn by a kill is dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fenghuo.errors import DamagedError
from fenghuo.rundir.atomic import disk_error, finite, write_atomic


class Metrics:
    """The measurements of one run in the order they were made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, values: dict[str, Any]) -> None:
        """Add one line, whole or not at all. Raises DiskError."""
        line = json.dumps(finite({"step": step, **values}), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                before_bytes = os.fstat(handle).st_size
                # A full disk takes the first part of a line and says so by a short count.
                if os.write(handle, line.encode()) != len(line.encode()):
                    os.ftruncate(handle, before_bytes)
                    raise OSError(28, os.strerror(28))
            finally:
                os.close(handle)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def read(self) -> list[dict[str, Any]]:
        """All whole lines. Raises DamagedError where one of them is not a measurement."""
        values = []
        for number, line in enumerate(self._lines(), start=1):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict) or not isinstance(value.get("step"), int):
                raise DamagedError(f"{self.path}:{number}: not a line that fenghuo wrote")
            values.append(value)
        return values

    def mend(self) -> None:
        """Cut off a torn last line, so that the next one begins where a line begins."""
        whole_bytes = sum(len(line) for line in self._lines())
        if self.path.exists() and self.path.stat().st_size > whole_bytes:
            os.truncate(self.path, whole_bytes)

    def trim(self, step: int) -> int:
        """Drop what was measured after `step`, since a run that goes on from there will measure it again; how many."""
        lines = self._lines()
        kept = [line for line, value in zip(lines, self.read(), strict=True) if value["step"] <= step]
        if self.path.exists():
            write_atomic(self.path, b"".join(kept))
        return len(lines) - len(kept)

    def _lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        return [line for line in self.path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
