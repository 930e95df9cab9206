"""The loader's order at the size of a large corpus: memory, time to find a batch, bytes it reads.

    .venv/bin/python benchmarks/loader_scale.py --examples 1000000000 --world 1024

The large index is real (4 bytes of length an example, memory-mapped, as `corpus/index.py` keeps it; made beside
`--home`, 4 GB for 10^9 examples, and removed afterwards); its shards are not there. What is read of shards is measured
on two real ones, of a size as `fenghuo corpus` makes them of a large input. Lengths are log-normal between 4 and 510
pieces, about 100 on average.

- memory: what the process holds of its own (RssAnon), after building the loader and after the batches.
- find: seconds to find a batch from a random cursor, cold (the index dropped from the disk cache) and warm.
- index: bytes of the index's pages that one batch touches.
- neighbours: of the others of an example's run, how many share its batch (from 2^24 examples on).
- elastic: what 7, 1,000 and 1,024 ranks are given of a batch, put together, beside the whole one.
- shards/making: examples a second of processor time that are checked and cut, for both splits; and `joined_per_s`, put
  together as one index.
- shards/read: bytes that the disk gave (/proc/self/io) for one example of a shard that is not open, its pages dropped
  from the disk cache: the pages it touches, and with what the system reads around each (`read_ahead_kb`).
- shards/open: what 512 open shards hold of the process's own memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fenghuo.corpus import format as shard_format
from fenghuo.corpus.format import Documents, open_shard, write_manifest, write_shard
from fenghuo.corpus.index import Index
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.shards import ShardSource
from fenghuo.corpus.slices import Cutting
from fenghuo.corpus.visits import Cursor

PAGE_BYTES = 4096
CURSORS = 40
SHARDS, DOCUMENTS = 2, 200_000  # 20 million pieces a shard: the 64 MB of text that are the most by default
MAX_PIECES = 126
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


class Lengths:
    """A source of which only the lengths are there, in a file."""

    def __init__(self, path: Path, examples: int) -> None:
        self.path = path
        rng = np.random.default_rng(0)
        total = 0
        with path.open("wb") as file:
            for begin in range(0, examples, _MADE_AT_ONCE):
                number = min(_MADE_AT_ONCE, examples - begin)
                some = drawn(rng, number)
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


def drawn(rng: np.random.Generator, number: int) -> Any:
    return np.clip(rng.lognormal(4.3, 0.8, number), 4, 510).astype(np.int32)


def own_mib() -> float:
    """Memory that no file stands behind."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


def tell(case: str, unit: str, ours: float, **more: Any) -> None:
    print(
        json.dumps({"benchmark": "loader_scale", "case": case, "unit": unit, "ours": ours, **more}),
        flush=True,
    )


def find_all(loader: Loader, cursors: list[Cursor], index: Lengths, *, cold: bool) -> list[float]:
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
        index = Lengths(Path(home) / "lengths.i32", examples)
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
        _touched(name, loader, index, cursors)
        _elastic(name, index, given.pieces, cursors)
        _shards(Path(home), DOCUMENTS // 10 if given.quick else DOCUMENTS)


def _touched(name: str, loader: Loader, index: Lengths, cursors: list[Cursor]) -> None:
    """What a batch touches of the index, and how many neighbours meet in it."""
    pages, met, examples = [], 0, 0
    run = getattr(loader._plan, "run", 1)
    for cursor in cursors:
        found = loader.examples(cursor)
        pages.append(len(np.unique(index.lengths.asked * 4 // PAGE_BYTES)) * PAGE_BYTES)
        _, sizes = np.unique(found // run, return_counts=True)
        met, examples = met + int((sizes * (sizes - 1)).sum()), examples + len(found)
    window = len(index.lengths.asked)
    tell(f"{name}/index", "bytes", statistics.median(pages), window_examples=window, of=4 * len(index))
    if run > 1:
        tell(f"{name}/neighbours", "examples", round(met / examples, 2), of=run - 1)


def _shards(home: Path, documents: int) -> None:
    """What shards cost: to cut them, to keep them open, and to read an example of one."""
    folder, rng = home / "run" / "shards", np.random.default_rng(0)
    folder.mkdir(parents=True)
    known = {"tokenizer": "none", "segmenter": "none"}
    lines = [
        write_shard(
            folder / f"{n}.arrow", [_documents(rng, documents)], vocabulary_size=21128, fingerprints=known
        )
        for n in range(SHARDS)
    ]
    write_manifest(folder, lines, fingerprints=known)
    began_s = time.process_time()
    Index(folder.parent, [Cutting(MAX_PIECES), Cutting(MAX_PIECES, "heldout")]).make()
    spent_s = time.process_time() - began_s
    source = ShardSource(folder.parent, max_pieces=MAX_PIECES)
    joined_s = time.process_time() - began_s - spent_s
    tell(
        "shards/making",
        "examples/s a core",
        round(len(source) / spent_s),
        pieces_per_s=round(sum(line.pieces for line in lines) / spent_s),
        joined_per_s=round(len(source) / joined_s),
    )
    mapped, indices = pa.memory_map, rng.integers(len(source), size=CURSORS).tolist()
    read: dict[str, list[int]] = {}
    for case, map_file in (("touched", _mapped_at_random), ("with what is read around", mapped)):
        shard_format.pa.memory_map = map_file
        read[case] = [_disk_bytes(source, folder, index) for index in indices]
    touched, around = (statistics.median(read[case]) for case in read)
    tell("shards/read", "bytes an example", touched, with_around=around, shard_bytes=lines[0].size_bytes)
    before_mib = own_mib()
    held = [open_shard(folder / lines[0].file) for _ in range(512)]
    tell("shards/open", "MiB", round(own_mib() - before_mib, 1), shards=len(held), documents=documents)


def _documents(rng: np.random.Generator, number: int) -> Documents:
    lengths = drawn(rng, number).astype(np.int64)
    pieces, begins = int(lengths.sum()), np.cumsum(lengths) - lengths
    word_start, sentence_start = (rng.random(pieces) < share for share in (0.6, 0.04))
    word_start[begins] = sentence_start[begins] = True
    return Documents(
        pieces=rng.integers(0, 21128, pieces),
        word_start=word_start,
        sentence_start=sentence_start,
        lengths=lengths,
        heldout=rng.random(number) < 0.01,
        sources=["none"] * number,
        signatures=np.zeros((number, 2), np.uint64),
        characters=np.ones(number, np.uint32),
    )


def _mapped_at_random(path: str) -> pa.BufferReader:
    """A mapping of which the system reads what is touched, and nothing around it."""
    with Path(path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    return pa.BufferReader(pa.py_buffer(mapped))


def _disk_bytes(source: ShardSource, folder: Path, index: int) -> int:
    """What the disk gives for an example of which nothing is in memory."""
    source._shard.cache_clear()
    gc.collect()
    for path in folder.glob("*.arrow"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = _given_bytes()
    source[index]
    return _given_bytes() - before


def _given_bytes() -> int:
    return next(
        int(line.split()[1])
        for line in Path("/proc/self/io").read_text().splitlines()
        if line.startswith("read_bytes")
    )


def _elastic(name: str, index: Lengths, pieces: int, cursors: list[Cursor]) -> None:
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
