"""The index of a corpus's slices: files that every process maps, made shard by shard and kept beside the shards.

To make it, each shard is compared with its sha256 and cut. What is done for a shard stays done, so ranks may take
shards in turn, and a process that is killed loses the one in work.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from fenghuo.corpus.format import check_bytes, check_size, open_shard, read_manifest
from fenghuo.corpus.kept import Kept, seal_of, with_advice
from fenghuo.corpus.slices import Cutting, Slices, cut
from fenghuo.errors import DiskError
from fenghuo.progress import say, track
from fenghuo.rundir import disk_error, sha256_of, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_FILES = ("begins.u32", "lengths.i32")
_SHA_BYTES = 32


class Index:
    """What a corpus needs before its slices can be read.

    Args:
        corpus_run: run folder of `fenghuo corpus`.
        cuttings: the ways of cutting that are wanted.

    Raises:
        DataError: the folder holds no finished corpus.
        DamagedError: its manifest cannot be read.
        DiskError: neither the corpus nor the cache folder can be written to.
    """

    def __init__(self, corpus_run: Path, cuttings: Sequence[Cutting]) -> None:
        self.folder = corpus_run / "shards"
        _, self.lines = read_manifest(self.folder)
        digest = hashlib.sha256("\n".join(line.sha256 for line in self.lines).encode()).hexdigest()[:12]
        self._names = {one: f"{one.packing}-{one.max_pieces}-{one.split}-{digest}" for one in cuttings}
        self._kept = Kept(self.folder)
        self._found: dict[Cutting, Path] = {}
        for one in cuttings:
            self._home(one)

    def left(self) -> list[int]:
        """Numbers of the shards that are not yet checked, or not yet cut in each way.

        Raises:
            DamagedError: a shard is missing or has another size.
        """
        waiting = [name for one, name in self._names.items() if self._home(one) is None]
        return [
            number
            for number in range(len(self.lines))
            if not self._kept.has(self._seal_of_shard(number))
            or not all(self._part(name, number).is_file() for name in waiting)
        ]

    def do(self, number: int) -> None:
        """Compare a shard with what was written, and cut it.

        Raises:
            DamagedError: it is another.
            DiskError: what was found cannot be written down.
        """
        seal, path = self._seal_of_shard(number), self.folder / self.lines[number].file
        if not self._kept.has(seal):
            check_bytes(path, self.lines[number])
            self._kept.set(seal)
        for cutting, name in self._names.items():
            if self._home(cutting) is None and not self._part(name, number).is_file():
                begins, lengths = cut(open_shard(path), cutting)
                data = begins.tobytes() + lengths.tobytes()
                try:
                    write_atomic(self._part(name, number), hashlib.sha256(data).digest() + data)
                except DiskError as problem:
                    if self._home(cutting) is None:  # else another process made it, and took the parts away
                        raise with_advice(problem) from problem

    def make(
        self,
        rank: int = 0,
        size: int = 1,
        gather: Callable[[int], list[int]] = lambda own: [own],
    ) -> None:
        """Do what is left, together with the other ranks, each of which must call it.

        They meet after each shard: none waits for the others longer than one shard takes.

        Args:
            gather: this rank's number → those of all ranks.
        """
        # Until all is done: where machines have disks of their own, each rank finds on its own what others did not do.
        while most := max(gather(len(left := self.left()))):
            mine = left[rank % len(left) :: size] if left else []
            with track("index", most, "shard") as bar:
                for turn in range(-(-most // size)):
                    if turn < len(mine):
                        self.do(mine[turn])
                    bar.advance(sum(gather(int(turn < len(mine)))))

    def slices(self, cutting: Cutting) -> Slices:
        """The slices of one of the ways; what is missing is made first. Raises as `do`."""
        is_new = self._home(cutting) is None
        self.make()
        while (home := self._home(cutting)) is None:
            self._join(cutting)
            self.make()
        if is_new:
            shutil.rmtree(self._part(self._names[cutting], 0).parent, ignore_errors=True)
        return _open(home)

    def _home(self, cutting: Cutting) -> Path | None:
        """The folder of a whole index. A damaged one is removed, or passed over where that cannot be."""
        for place in () if cutting in self._found else reversed(self._kept.places):
            home = place / "slices" / self._names[cutting]
            if not home.is_dir():
                continue
            if not (damage := self._damage(home)):
                self._found[cutting] = home
                break
            say(f"{home}: {damage}; the index is made again")
            shutil.rmtree(home, ignore_errors=True)
        return self._found.get(cutting)

    def _damage(self, home: Path) -> str:
        """What is wrong with an index, or "". Each file is hashed once after it changes."""
        try:
            counts = json.loads((home / "counts.json").read_bytes())
            if "sha256" not in counts:
                return "made by an earlier version, without checksums"
            known = counts["sha256"]
            if known["counts"] != _sha256_of_counts(counts):
                return "counts.json is damaged: its numbers are not those that were written (sha256)"
            for name in _FILES:
                seal = seal_of(home / name, known[name])
                if not self._kept.has(seal):
                    if sha256_of(home / name) != known[name]:
                        return f"{name} is damaged: its bytes are not those that were written (sha256)"
                    self._kept.set(seal)
        except (OSError, ValueError, KeyError, TypeError) as problem:
            return f"cannot be read ({problem})"
        return ""

    def _join(self, cutting: Cutting) -> None:
        """Put the shards' parts together; nothing where one was damaged, or another process was quicker."""
        name = self._names[cutting]
        home = self._kept.place / "slices" / name
        beside = self._part(name, 0).with_name(f"whole-{secrets.token_hex(4)}")
        try:
            beside.mkdir(parents=True)
            known = _write_whole([self._part(name, number) for number in range(len(self.lines))], beside)
            os.rename(beside, home)
            for file in _FILES:
                self._kept.set(seal_of(home / file, known[file]))
        except FileNotFoundError:
            pass
        except OSError as error:
            if self._home(cutting) is None:
                raise with_advice(disk_error(home, error)) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _part(self, name: str, number: int) -> Path:
        """What was cut of one shard: the sha256 of the rest, first pieces (uint32), lengths (int32)."""
        return self._kept.place / "slices" / f".{name}.parts" / f"{number:06d}"

    def _seal_of_shard(self, number: int) -> str:
        line = self.lines[number]
        check_size(self.folder / line.file, line)
        return seal_of(self.folder / line.file, line.sha256)


def _write_whole(parts: Sequence[Path], folder: Path) -> dict[str, str]:
    """Write the files of an index; their sha256 by name. Raises FileNotFoundError, also of a part that was damaged."""
    slices, pieces = list[int](), list[int]()
    sums = [hashlib.sha256() for _ in _FILES]
    with (folder / _FILES[0]).open("wb") as begins, (folder / _FILES[1]).open("wb") as lengths:
        for part in parts:
            data = part.read_bytes()
            if hashlib.sha256(data[_SHA_BYTES:]).digest() != data[:_SHA_BYTES]:
                part.unlink()
                raise FileNotFoundError(part)
            middle = (_SHA_BYTES + len(data)) // 2
            halves = data[_SHA_BYTES:middle], data[middle:]
            for half, file, total in zip(halves, (begins, lengths), sums, strict=True):
                file.write(half)
                total.update(half)
            slices.append(len(halves[1]) // 4)
            pieces.append(int(np.frombuffer(halves[1], np.int32).sum(dtype=np.int64)))
        for file in (begins, lengths):
            file.flush()
            os.fsync(file.fileno())
    counts: dict[str, Any] = {"slices": slices, "pieces": pieces}
    known = {name: total.hexdigest() for name, total in zip(_FILES, sums, strict=True)}
    known["counts"] = _sha256_of_counts(counts)
    (folder / "counts.json").write_text(json.dumps({**counts, "sha256": known}))
    return known


def _sha256_of_counts(counts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([counts["slices"], counts["pieces"]]).encode()).hexdigest()


def _open(home: Path) -> Slices:
    counts = json.loads((home / "counts.json").read_bytes())
    return Slices(
        begins=_mapped(home / _FILES[0], np.uint32),
        lengths=_mapped(home / _FILES[1], np.int32),
        first=np.cumsum([0, *counts["slices"]], dtype=np.int64),
        before=np.cumsum([0, *counts["pieces"]], dtype=np.int64),
    )


def _mapped(path: Path, kind: type[np.generic]) -> NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
