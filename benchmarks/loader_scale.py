"""The loader's order at the size of a large corpus: memory, time to find a batch, bytes it reads.

    .venv/bin/python benchmarks/loader_scale.py --examples 1000000000 --world 1024

The index is real (4 bytes of length an example, memory-mapped, as `corpus/slices.py` keeps it; made beside `--home`,
4 GB for 10^9 examples, and removed afterwards); the shards are not read: what would be read of them follows from the
examples of a batch. Lengths are log-normal between 4 and 510 pieces, about 100 on average.

- memory: what the process holds of its own (RssAnon), after building the loader and after the batches.
- find: seconds to find a batch from a random cursor, cold (the index dropped from the disk cache) and warm.
- index: bytes of the index's pages that one batch touches.
- shards: bytes of pieces and edges that one rank reads for one batch, and in how many places.
- elastic: what 7, 1,000 and 1,024 ranks are given of a batch, put together, beside the whole one.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fenghuo.corpus.loader import Loader
from fenghuo.corpus.visits import Cursor

PAGE_BYTES = 4096
CURSORS = 40
WORLDS = (7, 1000, 1024)
_MADE_AT_ONCE = 10_000_000


class Seen:
    """The lengths, which remember where they were last read."""

    def __init__(self, path: Path) -> None:
        self.values = np.memmap(path, np.int32, "r")
        self.asked = np.zeros(0, np.int64)

    def __getitem__(self, at: Any) -> Any:
        self.asked = at
        return self.values[at]


class Index:
    """A source of which only the lengths are there, in a file."""

    def __init__(self, path: Path, examples: int) -> None:
        self.path = path
        rng = np.random.default_rng(0)
        total = 0
        with path.open("wb") as file:
            for begin in range(0, examples, _MADE_AT_ONCE):
                number = min(_MADE_AT_ONCE, examples - begin)
                some = np.clip(rng.lognormal(4.3, 0.8, number), 4, 510).astype(np.int32)
                total += int(some.sum())
                file.write(some.tobytes())
        self.pieces = total
        self.lengths = Seen(path)

    def __len__(self) -> int:
        return len(self.lengths.values)

    def __getitem__(self, index: int) -> int:
        return index  # the shards are not there

    def forget(self) -> None:
        """Drop the file from the disk cache, so that the next reading is cold."""
        self.lengths.values._mmap.madvise(mmap.MADV_DONTNEED)
        with self.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def own_mib() -> float:
    """Memory that no file stands behind."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


def tell(case: str, unit: str, ours: float, **more: Any) -> None:
    print(
        json.dumps({"benchmark": "loader_scale", "case": case, "unit": unit, "ours": ours, **more}),
        flush=True,
    )


def find_all(loader: Loader, cursors: list[Cursor], index: Index, *, cold: bool) -> list[float]:
    spent_s = []
    for cursor in cursors:
        if cold:
            index.forget()
        began_s = time.perf_counter()
        loader.examples(cursor)
        spent_s.append(time.perf_counter() - began_s)
    return spent_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=1_000_000_000)
    parser.add_argument("--world", type=int, default=1024)
    parser.add_argument("--pieces", type=int, default=1 << 20, help="of a global batch")
    parser.add_argument("--home", type=Path, help="where the index is made; default: the temporary folder")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the examples")
    given = parser.parse_args()
    examples = given.examples // 100 if given.quick else given.examples
    name = f"{examples:.0e}/{given.world}ranks"
    with tempfile.TemporaryDirectory(dir=given.home) as home:
        index = Index(Path(home) / "lengths.i32", examples)
        before_mib = own_mib()
        began_s = time.perf_counter()
        loader = Loader(index, dict, seed=1, pieces=given.pieces, world=given.world)
        built_s = time.perf_counter() - began_s
        rng = np.random.default_rng(1)
        batches = loader.batches_per_epoch()
        epochs, numbers = rng.integers(0, 9, CURSORS), rng.integers(0, batches, CURSORS)
        cursors = [Cursor(int(epoch), int(number)) for epoch, number in zip(epochs, numbers, strict=True)]
        spent_s = {
            "cold": find_all(loader, cursors, index, cold=True),
            "warm": [find_all(loader, [cursor] * 2, index, cold=False)[1] for cursor in cursors],
        }
        tell(f"{name}/memory", "MiB", round(own_mib() - before_mib, 1), built_s=round(built_s, 2))
        for case, spent in spent_s.items():
            middle, worst = round(statistics.median(spent), 4), round(max(spent), 4)
            tell(f"{name}/find/{case}", "s", middle, worst=worst, batches=batches)
        _read(name, loader, index, cursors, given.world)
        _elastic(name, index, given.pieces, cursors)


def _read(name: str, loader: Loader, index: Index, cursors: list[Cursor], world: int) -> None:
    """What a batch touches of the index, and a rank of the shards."""
    pages, taken, of_rank = [], [], []
    for cursor in cursors:
        mine = loader.examples(cursor)[::world]
        pages.append(len(np.unique(index.lengths.asked * 4 // PAGE_BYTES)) * PAGE_BYTES)
        taken.append(len(mine))
        of_rank.append(int(index.lengths.values[mine].sum()))
    tell(
        f"{name}/index",
        "bytes",
        statistics.median(pages),
        window_examples=len(index.lengths.asked),
        of=4 * len(index),
    )
    # Two bytes a piece and two bits of edges; three places an example: pieces, word edges, sentence edges.
    tell(
        f"{name}/shards",
        "bytes",
        round(statistics.median(of_rank) * 2.25),
        examples=statistics.median(taken),
        places=3 * statistics.median(taken),
    )


def _elastic(name: str, index: Index, pieces: int, cursors: list[Cursor]) -> None:
    """Ranks come and go: whatever their number, what they are given makes the same batch, and none is idle."""
    differ, shares = 0, []
    for cursor in cursors[:2]:
        whole = np.sort(Loader(index, _number, seed=1, pieces=pieces).examples(cursor))
        for world in WORLDS:
            ranks = (
                Loader(index, _number, seed=1, pieces=pieces, rank=rank, world=world) for rank in range(world)
            )
            given = [np.concatenate([part["number"] for part in rank.batch(cursor)]) for rank in ranks]
            differ += not np.array_equal(np.sort(np.concatenate(given)), whole)
            shares += map(len, given)
    tell(f"{name}/elastic", "batches that differ", differ, of=2 * len(WORLDS), smallest_share=min(shares))


def _number(index: int, rng: np.random.Generator) -> dict[str, Any]:
    return {"pieces": np.zeros(1, np.int64), "number": np.array([index])}


if __name__ == "__main__":
    main()
