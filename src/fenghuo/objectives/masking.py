"""Which pieces to hide, and what to show in their place. numpy only.

A *unit* is hidden as a whole: a piece, a word, an n-gram or a span; the last two are *runs* of words. Every word is
as likely to be hidden as any other, with probability `rate` exactly, in texts of any length.
"""

# Shapes: n pieces, M hidden pieces.
from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fenghuo.text.tokenizer import Vocabulary

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RunLengths:
    """How many words are hidden in a row: lengths that fill a budget of words exactly.

    A list n_1 … n_k that adds up to the budget is drawn with a probability proportional to P(n_1) … P(n_k). So the
    lengths are P's but for a difference that fades with the distance from the budget's ends, and a budget of one word
    is one word. In a text of 70 words, of which 10 or 11 are hidden, long runs are rarer than P says: its spans have
    a mean of 3.3 words, not 3.8. SpanBERT's script cuts the last run to what is left, which comes to the same for
    lengths without memory, such as its own; ALBERT's passes over those that do not fit.
    """

    shares: tuple[float, ...]
    """P(1), P(2), …, their sum 1."""

    @classmethod
    @lru_cache(maxsize=16)
    def ngrams(cls, longest: int, favor: Literal["shorter", "longer"]) -> RunLengths:
        """P(n) ∝ 1/n (ALBERT, arXiv 1909.11942, §4.1); `longer` gives n what `shorter` gives `longest` + 1 - n.

        ALBERT's script reverses the shares where its flag `favor_shorter_ngram` is off. Its copy in albert_zh does so
        where it is on. Here each word does what it says.
        """
        weights = [1 / n for n in range(1, longest + 1)]
        return cls._of(weights if favor == "shorter" else weights[::-1])

    @classmethod
    @lru_cache(maxsize=16)
    def spans(cls, longest: int, p: float) -> RunLengths:
        """P(n) ∝ p (1 - p)^(n - 1) up to `longest`; with 10 and 0.2 the mean is 3.8 (SpanBERT, arXiv 1907.10529,
        §3.1)."""
        return cls._of([(1 - p) ** (n - 1) for n in range(1, longest + 1)])

    @classmethod
    def _of(cls, weights: Sequence[float]) -> RunLengths:
        total = sum(weights)
        return cls(tuple(weight / total for weight in weights))

    def fill(self, budget: int, rng: np.random.Generator) -> list[int]:
        """Lengths whose sum is `budget`."""
        rows = _rows(self.shares, 1 << budget.bit_length())
        lengths = []
        for die in rng.random(budget).tolist():
            row = rows[budget]
            lengths.append(min(bisect_right(row, die), len(row) - 1) + 1)
            budget -= lengths[-1]
            if not budget:
                break
        return lengths


@lru_cache(maxsize=64)
def _rows(shares: tuple[float, ...], most: int) -> tuple[tuple[float, ...], ...]:
    """Row b: running sums of the probabilities of the next length, where b words are left."""
    reach = [1.0]  # probability that lengths drawn from P add up to b at some time
    rows: list[tuple[float, ...]] = [()]
    for left in range(1, most + 1):
        weights = [share * reach[left - n] for n, share in enumerate(shares[:left], 1)]
        reach.append(sum(weights))
        rows.append(tuple(accumulate(weight / reach[left] for weight in weights)))
    return tuple(rows)


def choose_units(unit_start: Bools, rate: float, rng: np.random.Generator) -> Ints:
    """Choose whole units (words, or single pieces) such that each is chosen with probability exactly `rate`.

    Args:
        unit_start: (n,) true where a unit begins; the first piece begins one in any case.
        rate: share of the units, and so in expectation of the pieces, at every length n.

    Returns:
        (n,) the number of the chosen unit that a piece belongs to; -1 where it is not hidden.

    The number of units is rate * units, rounded up or down at random so that its mean is right. BERT's script hides
    max(1, round(rate * n)) pieces, special ones counted in n: a third of a three-piece text.
    """
    unit_of_piece, units = _numbered(unit_start)
    number = int(rate * units + rng.random())
    of_unit = np.full(units, -1)
    of_unit[rng.permutation(units)[:number]] = np.arange(number)
    chosen: Ints = of_unit[unit_of_piece]
    return chosen


def choose_runs(word_start: Bools, rate: float, lengths: RunLengths, rng: np.random.Generator) -> Ints:
    """Choose runs of words such that each word is chosen with probability exactly `rate`.

    Args:
        word_start, rate: as in `choose_units`.
        lengths: of the runs, in words.

    Returns:
        (n,) the number of the run that a piece belongs to; -1 where it is not hidden.

    The words are laid in a circle, runs apart from one another by at least one word (where `rate` leaves enough of
    them), all such arrangements alike; then the circle is turned at random. A run that lies across its cut is seen as
    two, at either end of the text, as if the text had been cut out of a longer one. Without the circle the first and
    the last word would be hidden three times more seldom than `rate` says, with SpanBERT's lengths.
    """
    word_of_piece, words = _numbered(word_start)
    budget = int(rate * words + rng.random())
    if not budget:
        return np.full(len(word_start), -1)
    runs = lengths.fill(budget, rng)
    number, shown = len(runs), words - budget
    apart = int(shown >= number)
    spare = shown - apart * number + number - 1
    bounds = np.empty(number + 1, np.int64)
    bounds[0], bounds[-1] = -1, spare
    bounds[1:-1] = np.sort(rng.permutation(spare)[: number - 1])
    around = np.empty(2 * number, np.int64)
    around[0::2] = runs
    around[1::2] = bounds[1:] - bounds[:-1] - 1 + apart
    names = np.full(2 * number, -1)
    names[0::2] = np.arange(number)
    circle, turn = np.repeat(names, around), int(rng.random() * words)
    chosen: Ints = np.concatenate((circle[turn:], circle[:turn]))[word_of_piece]
    return chosen


def _numbered(starts: Bools) -> tuple[Ints, int]:
    """(n,) number of each piece's unit, and how many there are."""
    if not len(starts):
        return np.zeros(0, np.int64), 0
    number = np.cumsum(starts, dtype=np.int64)
    number -= number[0]  # whatever is said of it, the first piece begins a unit
    return number, int(number[-1]) + 1


def show_instead(
    pieces_M: Ints,
    die_of_M: Ints,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    mask_share: float = 0.8,
    random_share: float = 0.1,
) -> Ints:
    """Of the hidden pieces 80 % become [MASK], 10 % random pieces, 10 % stay (BERT, arXiv 1810.04805, §3.1).

    Args:
        pieces_M: what stands there.
        die_of_M: pieces of the same number (from 0 on) share a die: they are hidden, garbled or kept together.

    Returns:
        (M,) what is shown. Random pieces come from `vocabulary.replaceable`, never from special or unused ones, each
        piece's own.
    """
    die: NDArray[Any] = rng.random(int(die_of_M.max(initial=-1)) + 1)[die_of_M]
    pool = vocabulary.replaceable
    noise_M = pool[(rng.random(len(pieces_M)) * len(pool)).astype(np.int64)]
    shown: Ints = np.where(die < mask_share + random_share, noise_M, pieces_M)
    shown[die < mask_share] = vocabulary.mask
    return shown
