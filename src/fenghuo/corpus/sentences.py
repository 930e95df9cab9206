"""Where sentences begin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# After 。！？… with what closes behind them; after a line; after a Latin stop that a blank and a capital, a
# figure, an opening mark or a Chinese character follow (so not after `3.14` or `e.g. this`).
# (One class of characters in front lets the search skip the rest of the text quickly.)
_END = re.compile(
    "[。！？!?…\n.](?:"
    "(?<=[。！？!?…])[。！？!?…]*[”’」』）)】》〉\"']*"
    "|(?<=\n)\n*"
    "|(?<=[^\\W_][.])[.]*[”’)\"']*(?= +[A-Z0-9\"'(“‘「『（【《\u3400-\u9fff])"
    ")"
)


def sentence_starts(starts: NDArray[np.int32], text: str) -> NDArray[np.bool_]:
    """Which pieces begin a sentence, given where each begins in the text.

    Returns:
        (n,) bool; the first is always True.
    """
    found = np.zeros(len(starts), np.bool_)
    ends = list(map(re.Match.end, _END.finditer(text)))
    first = np.concatenate([[0], np.searchsorted(starts, ends)])
    found[first[first < len(starts)]] = True
    return found
