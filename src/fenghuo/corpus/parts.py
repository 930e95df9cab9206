"""The parts of the input in a file, where every task of a pass finds its own, on whatever machine it runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING

from fenghuo.corpus.files import Range, TextFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def parts_as_text(parts: Sequence[tuple[Range, ...]]) -> str:
    """For a file that `read_parts` reads."""
    return "".join(json.dumps([asdict(one) for one in part]) + "\n" for part in parts)


def read_parts(path: Path) -> list[tuple[Range, ...]]:
    """All parts."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)  # a worker's tasks are of one run, mostly
def _read(path: Path, _written_ns: int) -> list[tuple[Range, ...]]:
    return [
        tuple(Range(**{**one, "file": TextFile(**one["file"])}) for one in json.loads(line))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
