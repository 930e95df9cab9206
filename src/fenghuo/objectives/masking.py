"""Which pieces to hide, and what to show in their place. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fenghuo.text.tokenizer import Vocabulary

Bools = NDArray[np.bool_]


def choose_units(unit_start: Bools, rate: float, rng: np.random.Generator) -> Bools:
    """Choose whole units (words, or single pieces) such that each is chosen with probability exactly `rate`.

    Args:
        unit_start: (n,) true where a unit begins; the first piece begins one in any case.
        rate: share of the units, and so in expectation of the pieces, at every length n.

    Returns:
        (n,) true on the pieces of chosen units.

    The number of units is rate * units, rounded up or down at random so that its mean is right: rounding as BERT's
    data script does (at least one, nearest integer) would hide a third of a three-piece text.
    """
    if not len(unit_start):
        return np.zeros(0, dtype=np.bool_)
    starts = unit_start.copy()
    starts[0] = True
    unit = np.cumsum(starts) - 1
    units = int(unit[-1]) + 1
    number = int(rate * units + rng.random())
    chosen = np.zeros(units, dtype=np.bool_)
    chosen[rng.permutation(units)[:number]] = True
    hidden: Bools = chosen[unit]
    return hidden


def show_instead(
    pieces: NDArray[np.int64],
    unit_start: Bools,
    chosen: Bools,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Of the chosen units, 80 % become [MASK], 10 % random pieces, 10 % stay (BERT, arXiv 1810.04805, §3.1).

    The die is cast once a unit: a word is hidden, garbled or kept as a whole. Random pieces come from
    `vocabulary.replaceable`, never from special or unused ones.
    """
    starts = unit_start.copy()
    starts[:1] = True
    unit = np.cumsum(starts) - 1
    die = rng.random(int(unit[-1]) + 1 if len(unit) else 0)[unit]
    noise = rng.choice(vocabulary.replaceable, len(pieces))
    garbled = np.where(die < 0.9, noise, pieces)
    shown: NDArray[Any] = np.where(chosen, np.where(die < 0.8, vocabulary.mask, garbled), pieces)
    return shown.astype(np.int64)
