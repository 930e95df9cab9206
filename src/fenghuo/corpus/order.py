"""Chance that is a function of its key: permutations found one element at a time, and generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 8  # even, so that the halves come back to their widths
_SMALL = 4096  # below, a Feistel network's halves are too narrow to look like chance, and a table is cheap
_MASK = (1 << 64) - 1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: SplitMix64's own increment; odd


def permuted(places: NDArray[np.int64], size: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """Where a permutation of 0 … size-1, chosen by `key`, sends each of `places`.

    A Feistel network over the next power of two, walked until it falls inside (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains"): no table, so O(1) memory and time for each place.
    """
    keys = scattered(np.arange(_ROUNDS, dtype=np.uint64), _folded(key))
    if size <= _SMALL:
        table = np.argsort(scattered(np.arange(size, dtype=np.uint64), keys[0]), kind="stable")
        return table[places]
    bits = (size - 1).bit_length()
    found = _feistel(places.astype(np.uint64), bits, keys)
    while (outside := found >= size).any():
        found[outside] = _feistel(found[outside], bits, keys)
    return found.astype(np.int64)


def keyed_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """A generator whose numbers depend on these three alone: each triple has its own 2^192 of Philox's."""
    key = np.array([seed & _MASK, epoch & _MASK], np.uint64)
    counter = np.array([0, 0, 0, index & _MASK], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _feistel(values: NDArray[np.uint64], bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    left_bits, right_bits = bits - bits // 2, bits // 2
    left = values >> np.uint64(right_bits)
    right = values & np.uint64((1 << right_bits) - 1)
    for key in keys:
        # After a step the halves have changed places, and so have their widths.
        left, right = right, left ^ (scattered(right, key) & np.uint64((1 << left_bits) - 1))
        left_bits, right_bits = right_bits, left_bits
    return (left << np.uint64(right_bits)) | right


def scattered(values: NDArray[np.uint64], key: np.uint64 = GOLDEN) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit in changes half the bits out."""
    mixed = values + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _folded(key: tuple[int, ...]) -> np.uint64:
    state = np.zeros(1, np.uint64)
    for part in key:
        state = scattered(state ^ np.uint64(part & _MASK))
    return np.uint64(state[0])
