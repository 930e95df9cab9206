"""Which documents repeat an earlier one: a decision over all parts, in memory that does not grow with the corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DECIDED_TOGETHER = 1 << 22  # signatures, 64 MB


def save_signatures(path: Path, signatures: Sequence[bytes]) -> None:
    """Keep a part's signatures (see `clean.signature`), in the order of its documents: (n, 2) uint64."""
    with path.open("wb") as file:
        np.save(file, np.frombuffer(b"".join(signatures), np.uint64).reshape(-1, 2))


def mark_repeats(signatures: Sequence[Path], repeats: Sequence[Path]) -> int:
    """For each part's file of signatures write which of its documents repeat an earlier one of any part.

    The signatures are dealt by their value into buckets, decided one after another, so that the answer depends
    neither on the number of parts nor on that of the buckets.

    Returns:
        The number of repeats.
    """
    parts = [np.load(path, mmap_mode="r") for path in signatures]
    answers = [np.zeros(len(part), np.bool_) for part in parts]
    buckets = sum(map(len, parts)) // DECIDED_TOGETHER + 1
    for bucket in range(buckets):
        places = [np.flatnonzero(part[:, 0] % buckets == bucket) for part in parts]
        repeated = _repeated(np.concatenate([part[at] for part, at in zip(parts, places, strict=True)]))
        bounds = np.cumsum([len(at) for at in places])[:-1]
        for answer, at, found in zip(answers, places, np.split(repeated, bounds), strict=True):
            answer[at[found]] = True
    for path, answer in zip(repeats, answers, strict=True):
        with path.open("wb") as file:
            np.save(file, answer)
    return int(sum(answer.sum() for answer in answers))


def _repeated(rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows equal an earlier one."""
    order = np.lexsort((rows[:, 1], rows[:, 0]))  # stable: equal rows keep their order
    ordered = rows[order]
    found = np.zeros(len(rows), np.bool_)
    found[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return found
