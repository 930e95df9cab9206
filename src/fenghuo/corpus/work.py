"""The working folder of a corpus run, which knows what is done."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from fenghuo.corpus.extend import Taken, save_signatures_of, save_taken
from fenghuo.corpus.parts import parts_as_text
from fenghuo.rundir import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fenghuo.corpus.files import Range
    from fenghuo.corpus.near import Clusters

_LAYOUT = 3  # of the folder: one of another version is done anew


class Work:
    """`.work` in the run folder, emptied where it belongs to other input; paths in it are absolute, for clusters."""

    def __init__(
        self,
        run: Path,
        parts: Sequence[tuple[Range, ...]],
        taken: Sequence[Taken],
        fingerprints: Mapping[str, str],
    ) -> None:
        self.taken, self.fingerprints = taken, fingerprints
        self.part_bytes = [sum(part.size_bytes for part in group) for group in parts]
        self.taken_bytes = [one.line.size_bytes for one in taken]
        self.home, self.shards = run.absolute() / ".work", run.absolute() / "shards"
        self.parts_file, self.taken_file = self.home / "parts.jsonl", self.home / "taken.json"
        plan = json.dumps([_LAYOUT, parts_as_text(parts), [one.line.sha256 for one in taken], fingerprints])
        note = self.home / "plan.json"
        self.is_other = note.is_file() and note.read_text(encoding="utf-8") != plan
        """Whether there was work here that this run cannot go on with: of another version."""
        if self.is_other or not note.is_file():
            self.remove()
            write_atomic(self.parts_file, parts_as_text(parts))
            save_taken(self.taken_file, taken)
            write_atomic(note, plan)
        self.shards.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Take the work and the shards away."""
        shutil.rmtree(self.shards, ignore_errors=True)
        self.clear()

    def clear(self) -> None:
        """Take the work away."""
        shutil.rmtree(self.home, ignore_errors=True)

    def folder(self, name: str) -> Path:
        """A folder in it, made."""
        (self.home / name).mkdir(parents=True, exist_ok=True)
        return self.home / name

    def forget(self, name: str) -> None:
        """Take a folder in it away, with what an unfinished pass left there."""
        shutil.rmtree(self.home / name, ignore_errors=True)

    def files(self, name: str) -> list[Path]:
        """A file in that folder of each shard taken over, then of each part."""
        names = [f"taken-{n:05d}.npy" for n in range(len(self.taken))]
        return [
            self.folder(name) / one
            for one in (*names, *(f"{n:05d}.npy" for n in range(len(self.part_bytes))))
        ]

    def bad_lines(self) -> list[Path]:
        """The file of each part's bad lines, which there is where there are any."""
        return [self.folder("bad") / f"{n:05d}.jsonl" for n in range(len(self.part_bytes))]

    def part_files(self, name: str) -> list[Path]:
        """A file in that folder of each part."""
        return self.files(name)[len(self.taken) :]

    @property
    def shown(self) -> Path:
        """(part, document) of near duplicates that the report will show."""
        return self.home / "shown.json"

    def keep_clusters(self, found: Clusters) -> None:
        """Keep what was decided of near duplicates, for the report."""
        write_atomic(self.home / "clusters.json", json.dumps(found.to_json()))
        write_atomic(self.shown, json.dumps(found.samples))

    def clusters(self) -> tuple[dict[str, Any], list[list[list[int]]]]:
        """What `keep_clusters` kept: counts, and which documents will be shown."""
        return json.loads((self.home / "clusters.json").read_bytes()), json.loads(self.shown.read_bytes())

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Do it, unless a run before this one did."""
        if not (self.home / f"{name}.done").exists():
            work()
            write_atomic(self.home / f"{name}.done", "")

    def sign_taken(self) -> None:
        """Put the signatures of what is taken over beside those of the parts."""
        for one, path in zip(self.taken, self.files("signatures"), strict=False):
            save_signatures_of(one, path)

    def reports(self) -> list[dict[str, Any]]:
        """What the steps of all passes counted, part by part."""
        return [{**self._report("sign", n), **self._report("write", n)} for n in range(len(self.part_bytes))]

    def taken_reports(self) -> list[dict[str, Any]]:
        """The same, of each shard taken over."""
        return [self._report("take", n) for n in range(len(self.taken))]

    def _report(self, name: str, number: int) -> dict[str, Any]:
        path = self.home / f"{name}-reports" / f"{number:05d}.json"
        found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return found
