"""The order of examples, and which of them share a batch.

Epoch e visits the examples by a keyed permutation. Every window of W consecutive visits is sorted by
length (equal ones stay in the order of the visit) and cut into the same number of batches, and a second
permutation orders the epoch's batches. So a batch is found from its number alone, in O(W); nothing is
skipped over, nothing kept between batches. W is a fraction of the examples: were it all of them, every
epoch would have the same batches, in another order.

Of a corpus too large for one disk cache, whole runs of neighbours are permuted, not single examples: a window then
reads its lengths from a few thousand places of the index, not from hundreds of thousands. A window is cut by length,
so that a few of a run's neighbours share a batch, and others in each epoch (docs/scale.md has the numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fenghuo.corpus.order import permuted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BATCHES_A_WINDOW = 50  # lengths within a batch then differ by about a fiftieth of their range
# A window is looked at for each of its batches: of batches of thousands it holds fewer, and finding one stays quick.
LARGE_WINDOW = 1 << 16  # examples
FEWEST_BATCHES = 8
WINDOWS_AN_EPOCH = 8  # at least: two examples that share a batch do so again in one epoch of eight, or fewer
MANY = 1 << 24  # examples, from which on neighbours are visited together
NEIGHBOURS = 64  # so many; a page of the index holds the lengths of 1,024
_EXAMPLES, _BATCHES = range(2)  # what a permutation is for


class Source(Protocol):
    """Examples by number: a corpus's slices, or labelled rows."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(n,) pieces of each example, as the model will see it."""
        ...

    @property
    def pieces(self) -> int:
        """The sum of `lengths`, known without reading them."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True, order=True, slots=True)
class Cursor:
    """The batch to be read next."""

    epoch: int = 0
    batch: int = 0

    def to_json(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batch": self.batch}

    @classmethod
    def from_json(cls, values: Mapping[str, int]) -> Cursor:
        return cls(epoch=int(values["epoch"]), batch=int(values["batch"]))


class Shuffled:
    """Windows of visits, each cut into the same number of batches; the last window may be shorter."""

    def __init__(
        self, source: Source, seed: int, pieces: int | None, rows: int | None, window: int | None
    ) -> None:
        self.source, self.seed, self.by_rows = source, seed, rows is not None
        size = len(source)
        mean = max(source.pieces, 1) / size
        a_batch = rows if rows is not None else (pieces or 0) / mean  # examples, on average
        if window is None:  # whole batches: a window of 2.3 would make 2 that are too large
            many = int(size / WINDOWS_AN_EPOCH / a_batch)
            most = min(BATCHES_A_WINDOW, max(FEWEST_BATCHES, int(LARGE_WINDOW / a_batch)))
            window = max(1, round(min(max(many, 1), most) * a_batch))
        self.window = min(size, window)
        self.run = NEIGHBOURS if size >= MANY and self.window >= NEIGHBOURS**2 else 1
        self.whole_windows, rest = divmod(size, self.window)
        self.a_window = _parts(self.window, a_batch)
        self.batches = self.whole_windows * self.a_window + (_parts(rest, a_batch) if rest else 0)

    def examples(self, cursor: Cursor) -> NDArray[np.int64]:
        _check(cursor, self.batches)
        number = int(permuted(np.array([cursor.batch]), self.batches, (self.seed, cursor.epoch, _BATCHES))[0])
        window = min(number // self.a_window, self.whole_windows)
        within = number - window * self.a_window
        parts = self.a_window if window < self.whole_windows else self.batches - window * self.a_window
        indices = self._visited(window, cursor.epoch)
        lengths = self.source.lengths[indices]
        order = np.argsort(lengths, kind="stable")
        weights = np.ones(len(order), np.int64) if self.by_rows else lengths[order].astype(np.int64)
        bounds = _equal_cuts(weights, parts)
        found: NDArray[np.int64] = indices[order[bounds[within] : bounds[within + 1]]]
        return found

    def _visited(self, window: int, epoch: int) -> NDArray[np.int64]:
        """The examples of a window, in the order of the visit; what fills no whole run comes last in each epoch."""
        runs = len(self.source) // self.run
        begin, end = window * self.window, min((window + 1) * self.window, len(self.source))
        numbers = np.arange(begin // self.run, min(-(-end // self.run), runs))
        starts = permuted(numbers, runs, (self.seed, epoch, _EXAMPLES)) * self.run
        indices = (starts[:, None] + np.arange(self.run)).ravel()
        first = begin - numbers[0] * self.run if len(numbers) else 0
        tail = np.arange(max(begin, runs * self.run), end)
        return np.concatenate([indices[first : first + end - begin], tail])


class InOrder:
    """Neighbours, as many as the budget takes."""

    def __init__(self, source: Source, pieces: int | None, rows: int | None) -> None:
        weights = source.lengths if rows is None else np.ones(len(source), np.int32)
        budget = rows if rows is not None else pieces or 0
        self._bounds = np.append(full_at(weights, budget), len(source))
        self.batches = len(self._bounds) - 1

    def examples(self, cursor: Cursor) -> NDArray[np.int64]:
        _check(cursor, self.batches)
        return np.arange(*self._bounds[cursor.batch : cursor.batch + 2], dtype=np.int64)


def _parts(examples: int, a_batch: float) -> int:
    return min(max(1, round(examples / a_batch)), examples)


def _equal_cuts(weights: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Cut a row of weights into `parts` of about equal weight, none empty: the (parts + 1,) bounds.

    An example belongs to the part in which its middle lies.
    """
    ends = np.cumsum(weights)
    middles = 2 * ends - weights  # twice, to stay with whole numbers
    number = np.arange(1, parts)
    cuts = np.searchsorted(middles * parts, 2 * int(ends[-1]) * number)
    # Where one example outweighs a part, its neighbours would be empty: push the cuts apart.
    cuts = np.maximum.accumulate(np.concatenate([[0], cuts - number])) + np.arange(parts)
    cuts = np.minimum(cuts, len(weights) - parts + np.arange(parts))
    return np.append(cuts, len(weights))


def full_at(weights: NDArray[Any], budget: int) -> NDArray[np.int64]:
    """Where greedy filling starts a new part: the first index of each part."""
    ends = np.cumsum(weights, dtype=np.int64)
    starts = [0]
    while True:
        taken = ends[starts[-1] - 1] if starts[-1] else 0
        following = max(int(np.searchsorted(ends, taken + budget, side="right")), starts[-1] + 1)
        if following >= len(ends):
            return np.array(starts, np.int64)
        starts.append(following)


def _check(cursor: Cursor, batches: int) -> None:
    if not 0 <= cursor.batch < batches:
        raise ValueError(f"batch {cursor.batch} of an epoch of {batches}")
