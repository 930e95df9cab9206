"""Which documents nearly repeat an earlier one: MinHash signatures, and a decision over all parts.

Broder 1997, "On the resemblance and containment of documents"; banding as in Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", §3.4. Two documents whose sets of 5-grams (see `corpus.ngrams`) have Jaccard
similarity s agree in one hash function with probability s, in a band of r functions with s^r, and in one of
b bands at least with 1 - (1 - s^r)^b. Those that agree in a band are in one cluster, of which the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fenghuo.corpus.duplicates import DECIDED_TOGETHER, save_array
from fenghuo.corpus.ngrams import shingles, units_of
from fenghuo.corpus.order import scattered
from fenghuo.corpus.signature import signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SHINGLE = 5  # units
NEAR = 2  # in a file of repeats, where 1 is an exact one
_SAMPLES = 6  # clusters that are shown, the largest
_SHOWN = 3  # documents of each besides the first


@dataclass(frozen=True, slots=True)
class Clusters:
    """What was found: how many clusters of each size, and documents of some to show."""

    sizes: dict[int, int]
    samples: list[list[tuple[int, int]]]
    """(part, document in it) of each; the one that stays is the first."""

    def to_json(self) -> dict[str, Any]:
        return {
            "clusters": sum(self.sizes.values()),
            "sizes": {str(size): number for size, number in sorted(self.sizes.items())},
        }


@cache
def bands_of(similarity: float, permutations: int) -> tuple[int, int]:
    """(bands, rows in each): of all that need no more hash functions, those whose curve is 1/2 nearest `similarity`.

    Among equals the steepest, which is that with more rows.
    """

    def middle(bands: int, rows: int) -> float:
        return float((1 - 0.5 ** (1 / bands)) ** (1 / rows))

    found = [(permutations // rows, rows) for rows in range(1, permutations + 1)]
    return min(found, key=lambda one: (round(abs(middle(*one) - similarity), 3), -one[1]))


def band_keys(texts: Sequence[str], similarity: float, permutations: int) -> NDArray[np.uint64]:
    """What decides about each text: one key a band, equal where all its hash functions agree.

    Each hash function is a·x + b modulo 2^32 of the 32 high bits of a 5-gram's hash; its least value is kept. In
    numpy, for about 50 ns a character at 120 functions, and 10 µs a text: the package rensa computes signatures
    in 5 ns, but hands them over as lists of Python numbers, which costs 25 µs a text, and another release of it
    may hash differently.

    Returns:
        (bands, n) uint64.
    """
    bands, rows = bands_of(similarity, permutations)
    units = units_of(texts)
    hashes, offsets = shingles(units, SHINGLE)
    for empty in np.flatnonzero(units.counts == 0).tolist():  # marks only: nothing to be like, but for itself
        hashes[offsets[empty]] = int.from_bytes(signature(texts[empty])[:8], "little")
    short = (hashes >> np.uint64(32)).astype(np.uint32)
    factors, terms = _functions(bands * rows)
    values = np.empty_like(short)
    least = np.empty(len(texts), np.uint32)
    keys = np.zeros((bands, len(texts)), np.uint64)
    for number in range(bands * rows):
        np.multiply(short, factors[number], out=values)
        np.add(values, terms[number], out=values)
        np.minimum.reduceat(values, offsets, out=least)
        band = number // rows
        keys[band] = scattered(keys[band] ^ least)
    return keys


def save_keys(path: Path, keys: Sequence[NDArray[np.uint64]], bands: int) -> None:
    """Keep a part's keys, (bands, n): the keys of a band lie together, since bands are decided one by one."""
    save_array(path, np.concatenate([np.zeros((bands, 0), np.uint64), *keys], axis=1))


def mark_near_repeats(keys: Sequence[Path], repeats: Sequence[Path]) -> Clusters:
    """Add the near repeats, as 2, to each part's file of exact ones (see `duplicates.mark_repeats`; may be absent)."""
    gone = [
        np.load(path) if path.exists() else np.zeros(np.load(part, mmap_mode="r").shape[1], np.bool_)
        for part, path in zip(keys, repeats, strict=True)
    ]
    near, clusters = mark_near(keys, gone)
    for path, exact, also in zip(repeats, gone, near, strict=True):
        save_array(path, exact.astype(np.uint8) + NEAR * also.astype(np.uint8))
    return clusters


def mark_near(
    keys: Sequence[Path], gone: Sequence[NDArray[np.bool_]]
) -> tuple[list[NDArray[np.bool_]], Clusters]:
    """Which documents of each part are in a cluster but not its first.

    Bands are decided one after another, and each of them bucket by bucket of its keys' values: the answer depends
    on neither the number of parts nor that of the buckets. Memory is 6 bytes a document (the number of the first
    one it is like, and two answers), 24 bytes a document that is removed, and 200 MB for a bucket: for 350 million
    documents of which a fifth is removed, 4 GB. On disk stand 8 bytes a document and band, 28 GB for 10 bands; they
    are read once a bucket, 84 times.

    Args:
        keys: a file of each part, see `save_keys`.
        gone: documents that are left out already, and so are in no cluster.
    """
    parts = [np.load(path, mmap_mode="r") for path in keys]
    first = np.cumsum([0, *(part.shape[1] for part in parts)])
    total = int(first[-1])
    like = np.arange(total, dtype=np.uint32 if total < 1 << 32 else np.uint64)
    buckets = total // DECIDED_TOGETHER + 1
    for band in range(len(parts[0]) if parts else 0):
        for bucket in range(buckets):
            _unite(like, *_pairs([part[band] for part in parts], gone, first, bucket, buckets))
    for begin in range(0, total, DECIDED_TOGETHER):
        end = min(begin + DECIDED_TOGETHER, total)
        like[begin:end] = _first_of(like, np.arange(begin, end))
    repeated = like != np.arange(total, dtype=like.dtype)
    return np.split(repeated, first[1:-1]) if parts else [], _clusters(like[repeated], repeated, like, first)


def _pairs(
    band: Sequence[NDArray[np.uint64]],
    gone: Sequence[NDArray[np.bool_]],
    first: NDArray[np.int64],
    bucket: int,
    buckets: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Documents with equal keys in this bucket: each with the first that has its key."""
    width = (1 << 64) // buckets
    low, high = np.uint64(bucket * width), np.uint64(min((bucket + 1) * width, 1 << 64) - 1)
    if bucket == buckets - 1:
        high = np.uint64((1 << 64) - 1)
    places = [
        np.flatnonzero((keys >= low) & (keys <= high) & ~away) for keys, away in zip(band, gone, strict=True)
    ]
    keys = np.concatenate([keys[at] for keys, at in zip(band, places, strict=True)])
    numbers = np.concatenate([at + begin for at, begin in zip(places, first, strict=False)])
    order = np.argsort(keys, kind="stable")
    keys, numbers = keys[order], numbers[order]
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    leaders = numbers[np.flatnonzero(new)][np.cumsum(new) - 1] if len(keys) else numbers
    return leaders[~new], numbers[~new]


def _unite(like: NDArray[Any], ones: NDArray[np.int64], others: NDArray[np.int64]) -> None:
    """Join the clusters of each pair; `like` leads every document, by falling numbers, to its cluster's first."""
    while len(ones):
        ones, others = _first_of(like, ones), _first_of(like, others)
        apart = ones != others
        low, high = np.minimum(ones, others)[apart], np.maximum(ones, others)[apart]
        like[high] = (
            low  # where several pairs name one cluster, one of them wins, and the rest go round again
        )
        ones, others = low, high


def _first_of(like: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    found = like[numbers]
    while (changed := found != (further := like[found])).any():
        found = further
        like[numbers[changed]] = found[changed]
    return found.astype(np.int64)


def _clusters(
    firsts: NDArray[Any], repeated: NDArray[np.bool_], like: NDArray[Any], first: NDArray[np.int64]
) -> Clusters:
    leaders, counts = np.unique(firsts, return_counts=True)
    sizes, numbers = np.unique(counts + 1, return_counts=True)
    largest = leaders[np.argsort(-counts, kind="stable")[:_SAMPLES]]

    def place(document: int) -> tuple[int, int]:
        part = int(np.searchsorted(first, document, side="right")) - 1
        return part, document - int(first[part])

    def shown(leader: int) -> Iterator[tuple[int, int]]:
        yield place(leader)
        for one in np.flatnonzero(repeated & (like == leader))[:_SHOWN].tolist():
            yield place(one)

    return Clusters(
        dict(zip(sizes.tolist(), numbers.tolist(), strict=True)),
        [list(shown(leader)) for leader in largest.tolist()],
    )


@cache
def _functions(number: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    drawn = scattered(np.arange(2 * number, dtype=np.uint64)).astype(np.uint32)
    return drawn[:number] | np.uint32(1), drawn[number:]
