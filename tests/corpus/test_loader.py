"""Every example once an epoch; the same batches whatever the ranks, restarts and micro-batches."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fenghuo.corpus.batch import BatchRecipe
from fenghuo.corpus.loader import Loader, collate
from fenghuo.corpus.visits import BATCHES_A_WINDOW, NEIGHBOURS, Cursor
from fenghuo.errors import DataError, FenghuoError


@dataclass
class Counted:
    """Examples of given lengths, which counts how many lengths are looked up."""

    sizes: np.ndarray
    looked_up: int = 0
    lengths: Any = field(init=False)
    pieces: int = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = Counting(self)
        self.pieces = int(self.sizes.sum())

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, int(self.sizes[index])


class Counting:
    def __init__(self, source: Counted) -> None:
        self.source = source

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        self.source.looked_up += len(self.source.sizes)
        return self.source.sizes.astype(dtype or np.int32)

    def __getitem__(self, at) -> np.ndarray:
        found = self.source.sizes[at]
        self.source.looked_up += np.size(found)
        return found


def source(*sizes: int) -> Counted:
    return Counted(np.array(sizes, np.int32))


def prepare(example: tuple[int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    index, length = example
    return {
        "pieces": np.full(length, index),
        "noise": rng.integers(0, 1 << 30, length),
        "index": np.array(index),
        "asked_at": np.arange(length)[::2],
    }


def seen(batches: list[dict[str, np.ndarray]]) -> list[int]:
    return [int(i) for batch in batches for i in batch["index"]]


sizes = st.lists(st.integers(1, 60), min_size=1, max_size=80)
budgets = st.integers(1, 300)
windows = st.none() | st.integers(1, 50)


@settings(deadline=None, max_examples=40)
@given(sizes, budgets, windows, st.booleans(), st.booleans(), st.integers(0, 3))
def test_every_epoch_visits_every_example_once(
    lengths: list[int], budget: int, window: int | None, by_rows: bool, shuffle: bool, epoch: int
) -> None:
    kind = {"rows" if by_rows else "pieces": budget}
    loader = Loader(source(*lengths), prepare, seed=5, window=window, shuffle=shuffle, **kind)
    visited = [seen(loader.batch(Cursor(epoch, batch))) for batch in range(loader.batches_per_epoch())]
    assert all(visited)  # no empty batch
    assert sorted(i for batch in visited for i in batch) == list(range(len(lengths)))


@settings(deadline=None, max_examples=40)
@given(sizes, budgets, windows)
def test_a_batch_by_cursor_is_the_batch_of_the_iteration(
    lengths: list[int], budget: int, window: int | None
) -> None:
    def loader() -> Loader:
        return Loader(source(*lengths), prepare, seed=1, pieces=budget, window=window)

    many = loader().batches_per_epoch() * 2 + 3
    cursor = Cursor()
    for after, batches in islice(loader().iterate(Cursor()), many):
        again = loader().batch(cursor)  # a fresh loader: as after a restart
        for one, other in zip(batches, again, strict=True):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key]) for key in one)
        cursor = Cursor.from_json(after.to_json())
    assert cursor == Cursor(*divmod(many, loader().batches_per_epoch()))


@settings(deadline=None, max_examples=40)
@given(sizes, budgets, st.none() | st.integers(1, 100))
def test_ranks_share_the_same_global_batches(lengths: list[int], budget: int, micro: int | None) -> None:
    alone = Loader(source(*lengths), prepare, seed=2, pieces=budget)
    for world in (2, 4):
        ranks = [
            Loader(
                source(*lengths), prepare, seed=2, pieces=budget, rank=rank, world=world, micro_pieces=micro
            )
            for rank in range(world)
        ]
        for batch in range(alone.batches_per_epoch()):
            whole = alone.batch(Cursor(0, batch))[0]
            parts = [part for loader in ranks for part in loader.batch(Cursor(0, batch))]
            assert sorted(seen(parts)) == sorted(seen([whole]))
            noise = {int(i): own for part in parts for i, own in by_example(part)}
            for i, own in by_example(whole):  # and draws the same chance for each example
                assert np.array_equal(noise[int(i)], own)


def by_example(batch: dict[str, np.ndarray]) -> list[tuple[int, np.ndarray]]:
    return list(zip(batch["index"], np.split(batch["noise"], np.cumsum(batch["lengths"])[:-1]), strict=True))


@settings(deadline=None, max_examples=40)
@given(sizes, budgets, windows)
def test_the_budget_holds_within_the_stated_bound(
    lengths: list[int], budget: int, window: int | None
) -> None:
    loader = Loader(source(*lengths), prepare, seed=3, pieces=budget, window=window)
    plan = loader._plan
    for batch in range(loader.batches_per_epoch()):
        pieces = loader.batch(Cursor(0, batch))[0]["pieces"].size
        longest_window = plan.window * max(lengths) / plan.a_window
        assert pieces <= longest_window + max(lengths)
    ordered = Loader(source(*lengths), prepare, seed=3, pieces=budget, shuffle=False)
    for batch in range(ordered.batches_per_epoch()):
        found = ordered.batch(Cursor(0, batch))[0]
        assert found["pieces"].size <= budget or len(found["lengths"]) == 1


@pytest.mark.slow
def test_batches_meet_the_budget_on_real_lengths() -> None:
    lengths = np.random.default_rng(0).geometric(1 / 60, 40_000).clip(1, 510).astype(np.int32)
    loader = Loader(Counted(lengths), prepare, seed=0, pieces=4_096)
    counts = [lengths[loader.examples(Cursor(0, b))].sum() for b in range(loader.batches_per_epoch())]
    assert np.mean(counts) == pytest.approx(4_096, rel=0.01)
    assert max(counts) < 4_096 * 1.15
    spread = [np.ptp(lengths[loader.examples(Cursor(0, b))]) for b in range(loader.batches_per_epoch())]
    assert np.median(spread) < 10  # alike in length: little padding inside attention


@settings(deadline=None, max_examples=40)
@given(sizes, budgets, st.integers(1, 100))
def test_micro_batches_cut_a_batch_without_changing_it(lengths: list[int], budget: int, micro: int) -> None:
    whole = Loader(source(*lengths), prepare, seed=4, pieces=budget)
    cut = Loader(source(*lengths), prepare, seed=4, pieces=budget, micro_pieces=micro)
    for batch in range(whole.batches_per_epoch()):
        parts = cut.batch(Cursor(1, batch))
        assert seen(parts) == seen(whole.batch(Cursor(1, batch)))
        assert all(part["pieces"].size <= micro or len(part["lengths"]) == 1 for part in parts)


def test_a_batch_is_found_in_one_window() -> None:
    many = Counted(np.full(100_000, 10, np.int32))
    loader = Loader(many, prepare, seed=0, pieces=320, window=256)
    assert not many.looked_up  # their sum is known
    loader.batch(Cursor(7, loader.batches_per_epoch() - 1))
    assert many.looked_up <= 256 + 64


@pytest.mark.parametrize(("size", "rows"), [(600, 32), (1_000, 32), (90, 32), (4_000, 32), (5, 1), (3, 32)])
def test_a_small_windows_batches_meet_the_budget_too(size: int, rows: int) -> None:
    loader = Loader(source(*[5] * size), prepare, seed=0, rows=rows)
    assert loader.batches_per_epoch() == max(1, round(size / rows))


def test_rows_differ_by_one_at_most() -> None:
    loader = Loader(source(*range(1, 104)), prepare, seed=0, rows=10, window=103)
    counts = {len(loader.examples(Cursor(0, batch))) for batch in range(loader.batches_per_epoch())}
    assert counts == {10, 11}


def test_epochs_and_seeds_differ() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = Loader(source(*[5] * 40), prepare, seed=seed, rows=4)
        return [i for b in range(loader.batches_per_epoch()) for i in seen(loader.batch(Cursor(epoch, b)))]

    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    batch = Loader(source(5), prepare, seed=0, rows=1)
    assert not np.array_equal(batch.batch(Cursor(0, 0))[0]["noise"], batch.batch(Cursor(1, 0))[0]["noise"])


@pytest.mark.parametrize("lengths", [[9] * 600, [n % 60 + 1 for n in range(600)]])
def test_each_epoch_makes_other_batches(lengths: list[int]) -> None:
    """Not the same batches in another order: a few hundred rows are no more than one length-sorted window."""
    loader = Loader(source(*lengths), prepare, seed=0, rows=32)

    def sets(epoch: int) -> set[frozenset[int]]:
        many = loader.batches_per_epoch()
        return {frozenset(seen(loader.batch(Cursor(epoch, batch)))) for batch in range(many)}

    assert len(set.union(*map(sets, range(4)))) == 4 * loader.batches_per_epoch()


def test_copies_come_again_in_turn() -> None:
    """As of data duplicated three times once for all; the order is new in each epoch all the same."""
    loader = Loader(source(*[5] * 40), prepare, seed=0, rows=4, copies=3)

    def noise(epoch: int) -> dict[int, list[int]]:
        batches = [loader.batch(Cursor(epoch, b))[0] for b in range(loader.batches_per_epoch())]
        return {int(i): own.tolist() for batch in batches for i, own in by_example(batch)}

    versions = [noise(epoch) for epoch in range(7)]
    assert versions[0] == versions[3] == versions[6]
    assert versions[1] == versions[4]
    assert len({str(sorted(one.items())) for one in versions}) == 3
    first, again = (loader.examples(Cursor(epoch, 0)).tolist() for epoch in (0, 3))
    assert first != again
    once = Loader(source(*[5] * 40), prepare, seed=0, rows=4)
    assert np.array_equal(once.batch(Cursor(2, 1))[0]["noise"], loader.batch(Cursor(2, 1))[0]["noise"])


@settings(deadline=None, max_examples=40)
@given(sizes, budgets, st.none() | st.integers(1, 100), st.sampled_from([1, 2, 4]))
def test_a_micro_batch_holds_one_kind(lengths: list[int], budget: int, micro: int | None, world: int) -> None:
    def kind_of(rng: np.random.Generator) -> int:
        return int(rng.integers(3))

    def prepare_kind(example: tuple[int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        kind = kind_of(rng)
        return {**prepare(example, rng), "kind": np.array(kind)}

    def loader(rank: int, world: int, micro: int | None) -> Loader:
        given: dict[str, Any] = {"rank": rank, "world": world, "micro_pieces": micro, "kind_of": kind_of}
        return Loader(source(*lengths), prepare_kind, seed=2, pieces=budget, **given)

    alone, ranks = loader(0, 1, None), [loader(rank, world, micro) for rank in range(world)]
    for number in range(alone.batches_per_epoch()):
        whole = {int(i): kind for b in alone.batch(Cursor(1, number)) for i, kind in kinds_in(b)}
        parts = [part for one in ranks for part in one.batch(Cursor(1, number))]
        assert all(len(set(part["kind"].tolist())) == 1 for part in parts)
        assert {int(i): kind for part in parts for i, kind in kinds_in(part)} == whole
        if micro is not None:
            assert all(part["pieces"].size <= micro or len(part["lengths"]) == 1 for part in parts)


def kinds_in(batch: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(batch["index"].tolist(), batch["kind"].tolist(), strict=True))


def test_equal_lengths_do_not_keep_the_files_order() -> None:
    """Rows sorted by label would make batches of one label."""
    loader = Loader(source(*[9] * 600), prepare, seed=0, rows=32, window=600)
    spread = [np.ptp(loader.examples(Cursor(0, batch))) for batch in range(loader.batches_per_epoch())]
    assert min(spread) > 300


def test_without_shuffle_the_order_is_the_sources() -> None:
    loader = Loader(source(3, 3, 3, 9, 1, 1), prepare, seed=0, pieces=6, shuffle=False)
    found = [seen(loader.batch(Cursor(9, b))) for b in range(loader.batches_per_epoch())]
    assert found == [[0, 1], [2], [3], [4, 5]]


def test_collate() -> None:
    batch = collate([prepare((7, 3), np.random.default_rng(0)), prepare((8, 2), np.random.default_rng(1))])
    assert batch["lengths"].tolist() == [3, 2]
    assert batch["pieces"].tolist() == [7, 7, 7, 8, 8]
    assert batch["index"].tolist() == [7, 8]
    assert batch["asked_at"].tolist() == [0, 2, 3]


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Loader(source(1), prepare, seed=0)
    with pytest.raises(DataError, match="no examples"):
        Loader(Counted(np.zeros(0, np.int32)), prepare, seed=0, rows=1)
    with pytest.raises(ValueError, match="batch 1 of an epoch of 1"):
        Loader(source(1), prepare, seed=0, rows=1).batch(Cursor(0, 1))


@pytest.mark.parametrize("given", [{"pieces": 9}, {"rows": 3, "micro_pieces": 7}, {"rows": 2, "window": 6}])
def test_a_recipes_batch_is_taken_whole(given: dict[str, int]) -> None:
    sizes = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5)
    ours = Loader.of(source(*sizes), prepare, BatchRecipe(**given), seed=4)
    theirs = Loader(source(*sizes), prepare, seed=4, **given)
    for (_, one), (_, other) in islice(
        zip(ours.iterate(Cursor()), theirs.iterate(Cursor()), strict=True), 20
    ):
        assert [part["pieces"].tolist() for part in one] == [part["pieces"].tolist() for part in other]


@pytest.fixture
def many_from_here(monkeypatch: pytest.MonkeyPatch) -> int:
    """Corpora of 200 examples count as large, and runs are of 4 neighbours."""
    monkeypatch.setattr("fenghuo.corpus.visits.MANY", 200)
    monkeypatch.setattr("fenghuo.corpus.visits.NEIGHBOURS", 4)
    return 4


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(200, 400), st.integers(16, 90), st.integers(1, 20), st.integers(0, 3))
def test_runs_of_neighbours_are_visited_once_and_their_window_is_read_in_few_places(
    many_from_here: int, size: int, window: int, rows: int, epoch: int
) -> None:
    counted = source(*np.random.default_rng(size).integers(1, 60, size).tolist())
    loader = Loader(counted, prepare, seed=5, rows=rows, window=window)
    batches = [loader.examples(Cursor(epoch, batch)) for batch in range(loader.batches_per_epoch())]
    assert all(len(batch) for batch in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(size))
    places = [np.unique(visited // many_from_here) for visited in windows_of(loader, epoch)]
    assert max(map(len, places)) <= window // many_from_here + 3


def windows_of(loader: Loader, epoch: int) -> list[np.ndarray]:
    """The examples of each window, from the batches that share it."""
    plan = loader._plan
    return [plan._visited(number, epoch) for number in range(-(-len(plan.source) // plan.window))]


@pytest.mark.slow
def test_few_neighbours_of_a_run_share_a_batch() -> None:
    """Lengths as a corpus has them: of a run's 63 others, a window of 50 batches brings 63 / 50 into one's own."""
    rng = np.random.default_rng(0)
    counted = Counted(np.clip(rng.lognormal(4, 0.8, 1 << 24), 4, 510).astype(np.int32))
    loader = Loader(counted, prepare, seed=3, rows=512)
    others = []
    for batch in range(0, loader.batches_per_epoch(), loader.batches_per_epoch() // 20):
        _, together = np.unique(loader.examples(Cursor(0, batch)) // NEIGHBOURS, return_counts=True)
        others.append((together * (together - 1)).sum() / together.sum())
    assert np.mean(others) == pytest.approx((NEIGHBOURS - 1) / BATCHES_A_WINDOW, rel=0.2)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_prepare_the_same_stream_from_any_cursor(workers: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 300)

    def stream(number: int) -> list[tuple[Cursor, list[dict[str, np.ndarray]]]]:
        loader = Loader(Lengths(lengths), prepare, seed=4, pieces=500, micro_pieces=200, workers=number)
        return list(islice(loader.iterate(Cursor(1, 3)), 25))  # over the end of an epoch

    for (after, batches), (alone_after, alone) in zip(stream(workers), stream(0), strict=True):
        assert after == alone_after
        for one, other in zip(batches, alone, strict=True):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_dead_worker_is_told() -> None:
    loader = Loader(Lengths(np.full(50, 10)), die, seed=4, rows=5, workers=2)
    with pytest.raises(FenghuoError, match=r"batch\.workers"):
        next(loader.iterate(Cursor()))


@dataclass
class Lengths:
    """Examples of given lengths, which can be sent to another process."""

    lengths: np.ndarray

    @property
    def pieces(self) -> int:
        return int(self.lengths.sum())

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, int(self.lengths[index])


def die(example: tuple[int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
