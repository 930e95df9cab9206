"""How long a run has taken, over all its processes, for whoever has to end on time."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from fenghuo.rundir.atomic import disk_error

EVERY_S = 1.0
"""What a kill may lose, in exchange for few writes."""


class Spent:
    """A file of one number, written over in place: a kill leaves the old bytes or the new ones.

    It is not synced, which would take longer than many a step; a power cut may leave an earlier number, or none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._noted_s = 0.0

    def note(self, spent_s: float) -> None:
        """Keep the number if it is `EVERY_S` above the last one. Raises DiskError."""
        if spent_s < self._noted_s + EVERY_S:
            return
        # Of one length, so that no longer one shows through.
        line = f'{{"spent_s": {spent_s:16.3f}}}\n'.encode()
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.pwrite(handle, line, 0)
            finally:
                os.close(handle)
        except OSError as error:
            raise disk_error(self.path, error) from error
        self._noted_s = spent_s

    def read(self) -> float:
        """The last number; 0 where there is none."""
        with suppress(OSError, ValueError, KeyError):
            return float(json.loads(self.path.read_bytes())["spent_s"])
        return 0.0
