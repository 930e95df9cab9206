"""Batches of examples: which, when, and how far we are.

Which examples share a batch, `fenghuo.corpus.visits` says; here they are drawn, dealt to ranks and joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fenghuo.corpus.ahead import prepared_ahead
from fenghuo.corpus.order import keyed_generator
from fenghuo.corpus.visits import Cursor, InOrder, Shuffled, full_at
from fenghuo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fenghuo.corpus.batch import BatchRecipe
    from fenghuo.corpus.visits import Source

    Batch = dict[str, NDArray[Any]]
    KindOf = Callable[[np.random.Generator], int]
    Prepare = Callable[[Any, np.random.Generator], Mapping[str, NDArray[Any]]]


def collate(examples: Sequence[Mapping[str, NDArray[Any]]]) -> Batch:
    """Prepared examples → one flat batch.

    Arrays of one dimension are joined along T; scalars are stacked to (S,). A key that ends in `_at` holds
    places within its example's `pieces`, and becomes places in the joined ones. Adds `lengths` (S,) int64.
    """
    lengths = np.array([len(example["pieces"]) for example in examples], np.int64)
    starts = np.cumsum(lengths) - lengths
    batch: Batch = {"lengths": lengths}
    for key, first in examples[0].items():
        values = [np.asarray(example[key]) for example in examples]
        if key.endswith("_at"):
            values = [value + start for value, start in zip(values, starts, strict=True)]
        batch[key] = np.concatenate(values) if np.ndim(first) else np.stack(values)
    return batch


class Loader:
    """Batches of a source's examples, the same whatever the number of ranks, restarts or workers.

    Args:
        prepare: example, generator → arrays (see `collate`). The generator depends on (seed, epoch, index of
            the example) alone.
        pieces: the wanted pieces of a global batch (all ranks together). The number of a window's batches is
            chosen so that the average batch of an epoch meets it; each holds the window's pieces over that
            number, give or take half an example at either end.
        rows: instead of `pieces`, the wanted examples of a global batch; a window's batches differ by one
            at most.
        workers: processes that prepare batches ahead, for `iterate`; 0: this one, when a batch is asked for.
        micro_pieces: a rank's share is cut into micro-batches of at most so many pieces (a longer example
            makes a micro-batch of its own).
        window: W, in examples; by default `visits.BATCHES_A_WINDOW` average batches (of very large ones fewer), or as
            many as the `visits.WINDOWS_AN_EPOCH`th part of the examples holds where that is less, but one at least.
        kind_of: which kind of example `prepare` makes with a generator; a micro-batch holds one kind. It may take
            numbers from the generator, since `prepare` is given a fresh one.
        copies: chance depends on (seed, epoch % copies, index): so many versions of each example, in turn, as in
            data that was duplicated once for all. The order is that of the epoch.
        shuffle: False visits the examples in order, in batches that never exceed the budget (but for a longer
            example): for evaluation.

    Raises:
        DataError: the source is empty.
    """

    def __init__(
        self,
        source: Source,
        prepare: Prepare,
        *,
        seed: int,
        pieces: int | None = None,
        rows: int | None = None,
        micro_pieces: int | None = None,
        window: int | None = None,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        kind_of: KindOf | None = None,
        copies: int | None = None,
        shuffle: bool = True,
    ) -> None:
        if (pieces is None) == (rows is None):
            raise ValueError("give exactly one of `pieces` and `rows`")
        if not len(source):
            raise DataError("no examples to load")
        self.source, self.prepare, self.seed = source, prepare, seed
        self.micro_pieces, self.rank, self.world = micro_pieces, rank, world
        self.kind_of, self.copies, self.workers = kind_of, copies, workers
        self._by_rows = rows is not None
        if shuffle:
            self._plan: Shuffled | InOrder = Shuffled(source, seed, pieces, rows, window)
        else:
            self._plan = InOrder(source, pieces, rows)

    @classmethod
    def of(
        cls,
        source: Source,
        prepare: Prepare,
        batch: BatchRecipe,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        kind_of: KindOf | None = None,
        copies: int | None = None,
    ) -> Loader:
        """The batches a recipe's `batch` asks for. Its keys are arguments of the same names."""
        sizes = batch.model_dump()
        return cls(
            source, prepare, seed=seed, rank=rank, world=world, kind_of=kind_of, copies=copies, **sizes
        )

    def batches_per_epoch(self) -> int:
        """Global batches; the same for every epoch."""
        return self._plan.batches

    def examples(self, cursor: Cursor) -> NDArray[np.int64]:
        """The indices of that global batch's examples, of all ranks."""
        return self._plan.examples(cursor)

    def batch(self, cursor: Cursor) -> list[Batch]:
        """This rank's micro-batches of that global batch; none if the batch has fewer examples than ranks."""
        mine = self.examples(cursor)[self.rank :: self.world]
        return [
            collate([self.prepare(self.source[int(i)], self._chance(cursor.epoch, int(i))) for i in part])
            for kind in self._by_kind(cursor.epoch, mine)
            for part in self._micro(kind)
        ]

    def iterate(self, cursor: Cursor) -> Iterator[tuple[Cursor, list[Batch]]]:
        """From `cursor` on, without end: (the cursor after this batch, this rank's micro-batches)."""
        if self.workers:
            yield from prepared_ahead(self.batch, self.after, cursor, self.workers)
        while True:
            after = self.after(cursor)
            yield after, self.batch(cursor)
            cursor = after

    def after(self, cursor: Cursor) -> Cursor:
        """The batch that follows."""
        if cursor.batch + 1 < self._plan.batches:
            return Cursor(cursor.epoch, cursor.batch + 1)
        return Cursor(cursor.epoch + 1, 0)

    def _chance(self, epoch: int, index: int) -> np.random.Generator:
        return keyed_generator(self.seed, epoch if self.copies is None else epoch % self.copies, index)

    def _by_kind(self, epoch: int, indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self.kind_of is None:
            return [indices]
        kinds = np.array([self.kind_of(self._chance(epoch, int(i))) for i in indices], np.int64)
        return [indices[kinds == kind] for kind in np.unique(kinds)]

    def _micro(self, indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if not len(indices):
            return []
        if self.micro_pieces is None:
            return [indices]
        return np.split(indices, full_at(self.source.lengths[indices], self.micro_pieces)[1:])
