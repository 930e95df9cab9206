"""Which documents repeat an earlier one: a decision over all parts, in memory that does not grow with the corpus."""

from __future__ import annotations

from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fenghuo.rundir import file_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DECIDED_TOGETHER = 1 << 20  # signatures: about 100 MB while they are sorted
_MOST_BUCKETS = 500  # each is an open file, of which a process often gets 1,024
_SIGNED = np.dtype([("low", "<u8"), ("high", "<u8"), ("place", "<i8")])


def save_signatures(path: Path, signatures: bytes | bytearray) -> None:
    """Keep the signatures of a part's documents, in order: (n, 2)."""
    save_array(path, np.frombuffer(signatures, "<u8").reshape(-1, 2))


def save_array(path: Path, values: NDArray[Any]) -> None:
    """Write a .npy file, whole or absent: what notes that it is done outlives a crash. Raises DiskError."""
    with file_atomic(path) as file:
        np.save(file, values)


def mark_repeats(signatures: Sequence[Path], repeats: Sequence[Path]) -> int:
    """For each part's file of signatures write which of its documents repeat an earlier one of any part.

    The signatures are dealt by their value into files beside the answers, which are decided one after another: the
    answer depends neither on the number of parts nor on that of the files, and memory not on the number of documents.

    Returns:
        The number of repeats.
    """
    if not repeats:
        return 0
    home = repeats[0].parent
    lengths = [len(np.load(path, mmap_mode="r")) for path in signatures]
    first = np.cumsum([0, *lengths])
    number = min(int(first[-1]) // DECIDED_TOGETHER + 1, _MOST_BUCKETS)
    buckets = [home / f"bucket-{bucket:04d}" for bucket in range(number)]
    with ExitStack() as stack:
        files = [stack.enter_context(bucket.open("wb")) for bucket in buckets]
        for path, begin in zip(signatures, first.tolist(), strict=False):
            _deal(np.load(path), begin, files)
    everywhere, count = home / "everywhere.npy", 0
    np.lib.format.open_memmap(everywhere, "w+", np.bool_, (int(first[-1]),)).flush()
    for bucket in buckets:
        found = _repeated(np.fromfile(bucket, _SIGNED))
        answers = np.load(
            everywhere, mmap_mode="r+"
        )  # anew each time: what is mapped counts as this process's
        answers[found] = True
        count += len(found)
        del answers
        bucket.unlink()
    for path, begin, length in zip(repeats, first.tolist(), lengths, strict=False):
        save_array(path, np.load(everywhere, mmap_mode="r")[begin : begin + length])
    everywhere.unlink()
    return count


def _deal(rows: NDArray[np.uint64], begin: int, files: Sequence[IO[bytes]]) -> None:
    signed = np.empty(len(rows), _SIGNED)
    signed["low"], signed["high"] = rows[:, 0], rows[:, 1]
    signed["place"] = np.arange(begin, begin + len(rows))
    bucket = rows[:, 0] % np.uint64(len(files))
    order = np.argsort(bucket, kind="stable")
    bounds = np.searchsorted(bucket[order], np.arange(len(files) + 1))
    for file, a, b in zip(files, bounds[:-1], bounds[1:], strict=True):
        file.write(signed[order[a:b]].tobytes())


def _repeated(signed: NDArray[Any]) -> NDArray[np.int64]:
    """The places whose signature an earlier one has."""
    ordered = signed[np.lexsort((signed["high"], signed["low"]))]  # stable: equal ones keep their order
    same = (ordered["low"][1:] == ordered["low"][:-1]) & (ordered["high"][1:] == ordered["high"][:-1])
    return np.sort(ordered["place"][1:][same])
