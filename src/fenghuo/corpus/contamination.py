"""Which documents hold a piece of an evaluation row.

After Brown et al. 2020, "Language models are few-shot learners", §C, where a piece is 13 words, and 8 of a short
row. In Chinese 13 characters are about 8 words, and as many as 全国人民代表大会常务委员会 has; 20 are about 13. The
questions of LCQMC, at 13 and 8 characters, meet 7 documents in 26 million characters of other text, by phrases
such as 这句话是什么意思; at 20 and 10 they meet one, by a book's title.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fenghuo.corpus.evaluation import find_evaluation, read_evaluation
from fenghuo.corpus.language import simplifier
from fenghuo.corpus.ngrams import HASHED_TOGETHER, Units, ngrams, runs, units_of
from fenghuo.text.groups import in_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from fenghuo.corpus.recipe import DecontaminateRecipe

_SLOTS = 16  # bytes for each n-gram in the table that is asked first


class Index:
    """The rows of evaluation files as hashed n-grams.

    A text of `length` units or more (see `corpus.ngrams`) gives all its n-grams of that length. A shorter one of
    `shortest` units at least is found as a whole, by its first `shortest` units and then by all of it. What is
    shorter still is never found. Memory: about 50 bytes for each n-gram, of which there are as many as Chinese
    characters and words in the files.

    Args:
        texts: (row, text); a row may have several.
    """

    def __init__(self, texts: Iterable[tuple[int, str]], *, length: int, shortest: int) -> None:
        self.length, self.shortest = length, shortest
        long, heads = [_no_entries()], [_no_entries()]
        for group in in_groups(texts, lambda one: len(one[1]), HASHED_TOGETHER):
            rows = np.array([row for row, _ in group], np.uint32)
            units = units_of([text for _, text in group])
            hashes, begins = ngrams(units, length)
            of = np.searchsorted(units.bounds, begins, side="right") - 1
            long.append(_Entries(hashes, rows[of], hashes, np.full(len(of), length, np.uint32)))
            short = np.flatnonzero((units.counts >= shortest) & (units.counts < length))
            begins, ends = units.bounds[:-1][short], units.bounds[1:][short]
            counts = units.counts[short].astype(np.uint32)
            wholes = runs(units, begins, ends)
            heads.append(_Entries(runs(units, begins, begins + shortest), rows[short], wholes, counts))
        self._long, self._heads = _Table(long), _Table(heads)

    @property
    def rows(self) -> NDArray[np.uint32]:
        """The rows that can be found: a text of theirs is long enough."""
        return np.unique(np.concatenate([self._long.entries.rows, self._heads.entries.rows]))

    def search(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """(n,) texts and (n,) rows of which they hold a piece; each pair once, in order."""
        units = units_of(texts)
        found = [self._found(units, self._long, self.length), self._found(units, self._heads, self.shortest)]
        of, rows = (np.concatenate(part) for part in zip(*found, strict=True))
        pairs = np.unique(np.stack([of, rows.astype(np.int64)]), axis=1)
        return pairs[0], pairs[1].astype(np.uint32)

    def _found(
        self, units: Units, table: _Table, length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        hashes, begins = ngrams(units, length)
        maybe = table.maybe(hashes)
        places, at = table.entries_at(hashes[maybe])
        begins = begins[maybe][places]
        of = np.searchsorted(units.bounds, begins, side="right") - 1
        ends = begins + table.entries.lengths[at]
        fits = ends <= units.bounds[of + 1]
        fits[fits] = runs(units, begins[fits], ends[fits]) == table.entries.wholes[at[fits]]
        return of[fits], table.entries.rows[at[fits]]


@dataclass(frozen=True, slots=True)
class _Entries:
    hashes: NDArray[np.uint64]  # (n,) of the first units, by which it is looked up
    rows: NDArray[np.uint32]
    wholes: NDArray[np.uint64]  # of all its units
    lengths: NDArray[np.uint32]  # how many these are


def _no_entries() -> _Entries:
    none = np.zeros(0, np.uint64)
    return _Entries(none, none.astype(np.uint32), none, none.astype(np.uint32))


class _Table:
    """Entries sorted by hash, and a table that says no for most hashes that are not there, without a search."""

    def __init__(self, parts: Sequence[_Entries]) -> None:
        hashes = np.concatenate([part.hashes for part in parts])
        order = np.argsort(hashes, kind="stable")
        self.entries = _Entries(
            hashes[order],
            np.concatenate([part.rows for part in parts])[order],
            np.concatenate([part.wholes for part in parts])[order],
            np.concatenate([part.lengths for part in parts])[order],
        )
        size = max(10, (len(hashes) * _SLOTS).bit_length())
        self._slots = np.zeros(1 << size, np.bool_)
        self._shifts = (np.uint64(64 - size), np.uint64(0))
        for shift in self._shifts:
            self._slots[self._slot(hashes, shift)] = True

    def maybe(self, asked: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Which of the hashes may be there: all that are, and about one in a hundred of the others (Bloom 1970)."""
        first = np.flatnonzero(self._slots[self._slot(asked, self._shifts[0])])
        return first[self._slots[self._slot(asked[first], self._shifts[1])]]

    def entries_at(self, asked: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places in `asked`, entries) of all that are equal."""
        begins = np.searchsorted(self.entries.hashes, asked, side="left")
        number = np.searchsorted(self.entries.hashes, asked, side="right") - begins
        places = np.repeat(np.arange(len(asked)), number)
        within = np.arange(len(places)) - np.repeat(np.cumsum(number) - number, number)
        return places, begins[places] + within

    def _slot(self, hashes: NDArray[np.uint64], shift: np.uint64) -> NDArray[np.uint64]:
        return (hashes >> shift) & np.uint64(len(self._slots) - 1)


@dataclass(frozen=True, slots=True)
class Rows:
    """Where each row of the evaluation files stands."""

    files: list[str]
    of: NDArray[np.int32]  # (rows,) number of its file
    lines: NDArray[np.int64]  # (rows,)
    findable: NDArray[np.bool_]  # (rows,) whether any of its texts is long enough


def read_index(recipe: DecontaminateRecipe, *, simplified: bool = False) -> tuple[Index, Rows]:
    """The rows of all evaluation files. Raises DataError for a missing, empty or unreadable one.

    Args:
        simplified: whether the documents' characters are; then the rows' are simplified too.
    """
    simplify = simplifier() if simplified else str
    files, of, lines = list[str](), list[int](), list[int]()

    def texts() -> Iterator[tuple[int, str]]:
        for path, given in find_evaluation(recipe.against):
            for row in read_evaluation(path, given.format):
                number = len(of)
                of.append(len(files))
                lines.append(row.number)
                yield from ((number, simplify(text)) for text in row.texts)
            files.append(path)

    index = Index(texts(), length=recipe.length, shortest=recipe.shortest)
    kept = np.zeros(len(of), np.bool_)
    kept[index.rows] = True
    return index, Rows(files, np.array(of, np.int32), np.array(lines, np.int64), kept)
