"""Texts → hashes of their n-grams, many texts at once: for near duplicates and for decontamination.

An n-gram is n *units*: a Chinese character, a kana or a character of another script without blanks is one, and so
is a whole word or number of a script with blanks. Case, width, blanks and punctuation make no difference.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from fenghuo.corpus.order import GOLDEN, scattered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_IN_WORD, _ALONE, _ODD = 1, 2, 3  # 0 is what stands between
# Characters that are words, or parts of words that no blank parts: Thai to Khmer, and East Asian but for Hangul.
_WITHOUT_BLANKS = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0xA4CF), (0xF900, 0xFAFF))
_BASE = int(GOLDEN)  # odd, so it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_TABLE = 1 << 16
HASHED_TOGETHER = 1 << 16  # characters, for `in_groups`


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
    codes, kinds, lengths = _codes(texts)
    if (odd := kinds == _ODD).any():
        # Only these need Python's own way, which costs fifty times as much as the table.
        slow = set((np.searchsorted(np.cumsum(lengths), np.flatnonzero(odd), side="right")).tolist())
        codes, kinds, lengths = _codes([_folded(t) if n in slow else t for n, t in enumerate(texts)])
        kinds[kinds == _ODD] = _IN_WORD
    in_word, alone = kinds == _IN_WORD, kinds == _ALONE
    begins = in_word.copy()
    begins[1:] &= ~in_word[:-1]
    begins |= alone
    starts = np.flatnonzero(begins)
    hashes = scattered(codes[starts].astype(np.uint64))
    letters = np.flatnonzero(in_word)
    if len(letters):
        edges = np.flatnonzero(np.diff(letters, prepend=-2) != 1)
        ends = np.append(edges[1:], len(letters))
        sums = _sums(scattered(codes[letters].astype(np.uint64)))
        hashes[~alone[starts]] = scattered(_between(sums, edges, ends))
    return Units(hashes, np.concatenate([[0], np.searchsorted(starts, np.cumsum(lengths))]))


def _codes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int64]]:
    """Folded characters of all texts, one break after each; what each is; the length of each text and its break."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    joined = "\n".join([*texts, ""])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    folded, kind = _table()
    at = np.minimum(codes, _TABLE)
    kinds = kind.take(at)
    far = np.flatnonzero(codes >= _TABLE)
    codes = folded.take(at) if not len(far) else np.where(codes < _TABLE, folded.take(at), codes)
    if len(far):
        beyond = codes[far]
        kinds[far[(beyond >= 0x20000) & (beyond < 0x3FFFE)]] = _ALONE  # Chinese; symbols lie between
        kinds[far[(beyond >= 0x1D400) & (beyond < 0x1D800)]] = _ODD  # letters of mathematics
    return codes, kinds, lengths


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
def _table() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Each character of the first plane, folded as `_folded` does it, and what it is; one entry more for all beyond.

    Odd are those that become several characters (㎏), or may become one with their neighbours (◌́).
    """
    folded = np.arange(_TABLE + 1, dtype=np.uint32)
    kinds = np.zeros(_TABLE + 1, np.uint8)
    joins = joining()
    for code in range(_TABLE):
        one = _folded(chr(code))
        classes = {unicodedata.category(character)[0] for character in one}
        if not classes & set("LNM"):
            continue
        if len(one) != 1 or one in joins:
            kinds[code] = _ODD
            continue
        folded[code] = ord(one)
        alone = any(first <= ord(one) <= last for first, last in _WITHOUT_BLANKS)
        kinds[code] = _ALONE if alone else _IN_WORD
    return folded, kinds


@cache
def joining() -> frozenset[str]:
    """Characters of the first plane that may be one with the character before them, or change places with a mark
    beside them."""
    parts = [unicodedata.decomposition(chr(code)).split() for code in range(_TABLE)]
    second = {chr(int(part[1], 16)) for part in parts if len(part) == 2 and not part[0].startswith("<")}
    marks = {chr(code) for code in range(_TABLE) if unicodedata.combining(chr(code))}
    hangul = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    return frozenset(second | marks | hangul)
