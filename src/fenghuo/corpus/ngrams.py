"""Texts → hashes of their n-grams, many texts at once: for near duplicates and for decontamination.

An n-gram is n *units*: a Chinese character, a kana or a character of another script without blanks is one, and so
is a whole word or number of a script with blanks. Case, width, blanks and punctuation make no difference.
"""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

Item = TypeVar("Item")

_BETWEEN, _IN_WORD, _ALONE = 0, 1, 2
# Characters that are words, or parts of words that no blank parts: Thai to Khmer, and East Asian but for Hangul.
_WITHOUT_BLANKS = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0xA4CF), (0xF900, 0xFAFF))
_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_TABLE = 1 << 16
_TOGETHER = 1 << 16  # characters that are hashed at once: numpy costs something a call


@dataclass(frozen=True, slots=True)
class Units:
    """The units of some texts, one after another."""

    hashes: Hashes  # (n,)
    bounds: NDArray[np.int64]  # (texts + 1,); text i has the units bounds[i] … bounds[i + 1] - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.diff(self.bounds)


def units_of(texts: Sequence[str]) -> Units:
    """The units of each text, hashed to 64 bits each; about 60 bytes of memory a character."""
    plain = [_folded(text) for text in texts]
    lengths = np.fromiter(map(len, plain), np.int64, len(plain)) + 1
    joined = "".join(text + "\n" for text in plain)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[np.minimum(codes, _TABLE)]
    kinds[(codes >= 0x20000) & (codes < 0x3FFFE)] = _ALONE  # Chinese characters beyond the first plane
    in_word = kinds == _IN_WORD
    begins = kinds == _ALONE
    alone = begins.copy()
    begins |= in_word & ~np.concatenate([[False], in_word[:-1]])
    starts = np.flatnonzero(begins)
    hashes = scattered(codes[starts].astype(np.uint64))
    letters = np.flatnonzero(in_word)
    if len(letters):
        edges = np.flatnonzero(np.diff(letters, prepend=-2) != 1)
        sums = _sums(scattered(codes[letters].astype(np.uint64)))
        ends = np.append(edges[1:], len(letters))
        hashes[~alone[starts]] = scattered(_between(sums, edges, ends))
    bounds = np.concatenate([[0], np.searchsorted(starts, np.cumsum(lengths))])
    return Units(hashes, bounds)


def in_groups(items: Iterable[Item], length: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Neighbouring items together, as many as are worth a call."""
    group, total = list[Item](), 0
    for one in items:
        group.append(one)
        total += length(one)
        if total >= _TOGETHER:
            yield group
            group, total = [], 0
    if group:
        yield group


def ngrams(units: Units, length: int) -> tuple[Hashes, NDArray[np.int64]]:
    """Every run of `length` neighbouring units inside a text.

    Returns:
        (n,) uint64 hashes, and (n,) the unit each begins with.
    """
    ends = np.repeat(units.bounds[1:], units.counts)
    begins = np.flatnonzero(np.arange(len(ends)) + length <= ends)
    return scattered(_between(_sums(units.hashes), begins, begins + length)), begins


def runs(units: Units, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """The hash of each run of units; equal to that of the same units in `ngrams`."""
    return scattered(_between(_sums(units.hashes), begins, ends))


def shingles(units: Units, length: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The n-grams of each text; a shorter text is one n-gram, also where it has no unit at all.

    Returns:
        (n,) uint64, and (texts,) where each text's begin.
    """
    number = np.maximum(units.counts - length + 1, 1)
    offsets = np.cumsum(number) - number
    begins = np.repeat(units.bounds[:-1] - offsets, number) + np.arange(int(number.sum()))
    ends = np.minimum(begins + length, np.repeat(units.bounds[1:], number))
    return runs(units, begins, ends), offsets


def scattered(values: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit in changes half the bits out."""
    mixed = values + np.uint64(_BASE)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _folded(text: str) -> str:
    text = text.casefold()
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text).casefold()


def _sums(values: Hashes) -> Hashes:
    """Prefix sums of value times base^place, from which every run's polynomial is a difference (mod 2^64)."""
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * _powers(_BASE, len(values)), out=sums[1:])
    return sums


def _between(sums: Hashes, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    return (sums[ends] - sums[begins]) * _powers(_INVERSE, len(sums))[begins]


def _powers(base: int, number: int) -> Hashes:
    """base^0 … base^(number - 1), modulo 2^64; kept up to the next power of two, up to a size."""
    size = 1 << max(number - 1, 1).bit_length()
    return (_kept_powers if size <= 1 << 18 else _new_powers)(base, size)[:number]


def _new_powers(base: int, size: int) -> Hashes:
    powers = np.full(size, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


_kept_powers = cache(_new_powers)


@cache
def _kinds() -> NDArray[np.uint8]:
    """What each character of the first plane is; one entry more for the symbols beyond it."""
    kinds = np.zeros(_TABLE + 1, np.uint8)
    for code in range(min(_TABLE, sys.maxunicode)):
        if unicodedata.category(chr(code))[0] in "LNM":
            kinds[code] = _IN_WORD
    for first, last in _WITHOUT_BLANKS:
        part = kinds[first : last + 1]
        part[part == _IN_WORD] = _ALONE
    return kinds
