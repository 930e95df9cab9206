"""The index of slices: made once, shard by shard and by whoever is there, and what was written is what is read."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.corpus.test_shards import corpus, flip

from fenghuo.corpus import index as index_module
from fenghuo.corpus.index import Index
from fenghuo.corpus.shards import ShardSource
from fenghuo.corpus.slices import Cutting
from fenghuo.errors import DiskError
from fenghuo.rundir import disk_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHARD = [([[2, 3], [4]], False), ([[1]], True), ([[3]], False)]
LENGTHS = [5, 4, 3]  # of its training slices of 5 pieces at most


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder is another one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse(*_: object, **__: object) -> Any:
    pytest.fail("done again")


def no_more_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for work in ("cut", "check_bytes", "sha256_of"):
        monkeypatch.setattr(index_module, work, refuse)


def home_of(folder: Path) -> Path:
    [home] = (folder / "shards" / "slices").iterdir()
    return home


def test_shards_are_checked_and_cut_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = corpus(tmp_path / "run", [SHARD] * 3)
    first = ShardSource(folder, max_pieces=5).lengths
    assert isinstance(first, np.memmap)
    assert first.tolist() == LENGTHS * 3
    assert home_of(folder).name.startswith("doc-sentences-5-train-")  # and no leftovers
    with monkeypatch.context() as patch:
        no_more_work(patch)
        assert ShardSource(folder, max_pieces=5).lengths.tolist() == first.tolist()
        patch.undo()
        patch.setattr(index_module, "check_bytes", refuse)
        assert ShardSource(folder, max_pieces=9).lengths.tolist() == [9, 3] * 3


def test_a_corpus_without_shards_has_an_index(tmp_path: Path) -> None:
    assert len(ShardSource(corpus(tmp_path / "run", []), max_pieces=5)) == 0


def read_only(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: Path) -> None:
    """As far as a root user can be told so."""
    real = tempfile.TemporaryFile

    def probe(dir: Path) -> Any:
        if any(dir.is_relative_to(one) for one in (folder, *more)):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(dir=dir)

    monkeypatch.setattr("tempfile.TemporaryFile", probe)


def test_a_corpus_that_cannot_be_written_to_has_its_index_in_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(tmp_path / "run", [SHARD] * 2)
    before = sorted(folder.rglob("*"))
    read_only(folder, monkeypatch)
    source = ShardSource(folder, max_pieces=5)
    assert isinstance(source.lengths, np.memmap)
    assert source[1].pieces.tolist() == [5, 6, 7, 8]
    assert sorted(folder.rglob("*")) == before
    assert f"kept in {cache}" in capsys.readouterr().err
    no_more_work(monkeypatch)
    sent = pickle.loads(pickle.dumps(source))  # as a process of batch.workers
    assert isinstance(sent.lengths, np.memmap)
    assert sent.lengths.tolist() == source.lengths.tolist() == LENGTHS * 2


def test_an_index_without_a_place_is_told(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus(tmp_path / "run", [SHARD])
    read_only(folder, monkeypatch, cache)
    told = rf"no place: cannot write to {folder}.*\(Read-only file system\) nor to {cache}.*XDG_CACHE_HOME"
    with pytest.raises(DiskError, match=told):
        ShardSource(folder, max_pieces=5)


def test_a_full_disk_is_told_and_what_was_done_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = corpus(tmp_path / "run", [SHARD] * 3)
    real = index_module.write_atomic
    written: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise disk_error(path, OSError(errno.ENOSPC, "No space left on device"))
        written.append(path)
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(index_module, "write_atomic", full)
        with pytest.raises(DiskError, match=r"No space left on device .*8 bytes an example.*make room"):
            ShardSource(folder, max_pieces=5)
    assert Index(folder, [Cutting(5)]).left() == [2]
    done: list[Any] = []
    cut = index_module.cut
    monkeypatch.setattr(index_module, "cut", lambda *given: done.append(given) or cut(*given))
    assert ShardSource(folder, max_pieces=5).lengths.tolist() == LENGTHS * 3
    assert len(done) == 1


def test_ranks_take_shards_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is done by one of them; and they meet after each, so that none waits for long."""
    shards, size = 7, 3
    folder = corpus(tmp_path / "run", [SHARD] * shards)
    cuttings = [Cutting(5), Cutting(5, "heldout")]
    meeting, box, done = threading.Barrier(size), [0] * size, [list[int]() for _ in range(size)]
    between = [0] * size

    def make(rank: int) -> None:
        index = Index(folder, cuttings)
        do = index.do

        def gather(own: int) -> list[int]:
            box[rank] = own
            between[rank] = 0
            meeting.wait(60)
            found = list(box)
            meeting.wait(60)
            return found

        def one(number: int) -> None:
            done[rank].append(number)
            between[rank] += 1
            assert between[rank] == 1
            do(number)

        monkeypatch.setattr(index, "do", one)
        index.make(rank, size, gather)

    threads = [threading.Thread(target=make, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for mine in done for number in mine) == list(range(shards))
    assert {len(mine) for mine in done} == {2, 3}
    no_more_work(monkeypatch)
    assert ShardSource(folder, max_pieces=5).lengths.tolist() == LENGTHS * shards
    assert ShardSource(folder, max_pieces=5, split="heldout").lengths.tolist() == [1] * shards


def test_processes_may_make_the_index_at_once(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "run", [SHARD] * 3)
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            try:
                os._exit(0 if ShardSource(folder, max_pieces=5).lengths.tolist() == LENGTHS * 3 else 1)
            finally:
                os._exit(2)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert home_of(folder)  # one index, no leftovers


def miscount(path: Path) -> None:
    """As a flipped bit that leaves JSON behind."""
    path.write_text(path.read_text().replace('"slices": [3, 3]', '"slices": [2, 3]'))


def without_checksums(path: Path) -> None:
    """As earlier versions wrote it."""
    counts = json.loads(path.read_text())
    del counts["sha256"]
    path.write_text(json.dumps(counts))


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        ("begins.u32", flip, "begins.u32 is damaged: its bytes are not"),
        ("lengths.i32", flip, "lengths.i32 is damaged: its bytes are not"),
        ("lengths.i32", lambda path: path.write_bytes(b""), "lengths.i32 is damaged"),
        ("lengths.i32", lambda path: path.unlink(), "cannot be read"),
        ("counts.json", miscount, "counts.json is damaged"),
        ("counts.json", flip, "cannot be read|is damaged"),
        ("counts.json", without_checksums, "earlier version"),
    ],
)
def test_a_damaged_index_is_made_again(
    file: str,
    damage: Callable[[Path], None],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = corpus(tmp_path / "run", [SHARD] * 2)
    begins = ShardSource(folder, max_pieces=5)._slices.begins.tolist()
    damage(home_of(folder) / file)
    again = ShardSource(folder, max_pieces=5)
    assert again.lengths.tolist() == LENGTHS * 2
    assert again._slices.begins.tolist() == begins
    assert re.search(rf"{home_of(folder)}: .*({told}).*made again", capsys.readouterr().err)
    no_more_work(monkeypatch)
    ShardSource(folder, max_pieces=5)


@pytest.fixture
def stays_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus with a damaged index that cannot be removed."""
    folder = corpus(tmp_path / "run", [SHARD] * 2)
    ShardSource(folder, max_pieces=5)
    flip(home_of(folder) / "lengths.i32")
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    return folder


def test_a_damaged_index_that_cannot_be_removed_is_passed_over(
    stays_damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stays_damaged
    read_only(folder, monkeypatch)
    assert ShardSource(folder, max_pieces=5).lengths.tolist() == LENGTHS * 2
    no_more_work(monkeypatch)
    assert ShardSource(folder, max_pieces=5).lengths.tolist() == LENGTHS * 2


def test_a_damaged_index_that_nobody_can_replace_is_told(stays_damaged: Path) -> None:
    with pytest.raises(DiskError, match="not empty"):
        ShardSource(stays_damaged, max_pieces=5)


def test_a_copied_index_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = corpus(tmp_path / "run", [SHARD] * 2)
    ShardSource(folder, max_pieces=5)
    for file in home_of(folder).iterdir():
        os.utime(file, ns=(1, 1))
    monkeypatch.setattr(index_module, "cut", refuse)
    ShardSource(folder, max_pieces=5)
    no_more_work(monkeypatch)
    ShardSource(folder, max_pieces=5)


def test_a_damaged_part_is_cut_again(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "run", [SHARD] * 2)
    index = Index(folder, [Cutting(5)])
    index.make()
    [parts] = (folder / "shards" / "slices").iterdir()
    flip(parts / "000001")
    assert ShardSource(folder, max_pieces=5).lengths.tolist() == LENGTHS * 2
