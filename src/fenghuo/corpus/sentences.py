"""Where sentences begin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_CLOSERS = "”’」』）】》〉〕］｝»)\\]}\"'"
_FIRM = "。｡！？‼⁇⁈⁉؟۔।॥։።፧။។"  # Chinese and Japanese, Arabic, Devanagari, Armenian, Ethiopic, Burmese, Khmer
# A sentence ends after a line; after a firm mark; after ! ? … in front of anything but a letter of the same word or
# a word in small letters (`Yahoo! is`, `a?b=1`, `wait… what`); perhaps after a stop. What closes goes with it. It goes
# on where a comma follows, or と, with which Japanese leads on from a quotation. Marks after which it goes on are
# matched too, as a whole: tried again from each of them, a line of marks would take time with its square.
# (One class of characters in front lets the search skip the rest of the text quickly.)
_MARKS = f"[{_FIRM}!?…]*+[{_CLOSERS}]*+[{_FIRM}]*+"
_NO_COMMA = "(?![，、；：,;:]|(?<=[」』])[とっ])"
_END = re.compile(
    f"[{_FIRM}!?…\n.](?:"
    f"(?<=[{_FIRM}]){_MARKS}{_NO_COMMA}"
    f"|(?<=[!?…]){_MARKS}(?![，、；：,;:&=/]|[0-9A-Za-z\xc0-\u024f]| +[a-z])"
    f"|(?<=[!?…])[!?…]*+[{_CLOSERS}]*+[{_FIRM}]{_MARKS}{_NO_COMMA}"
    f"|(?<=[{_FIRM}!?…])(?P<goes_on>{_MARKS})"
    "|(?<=\n)\n*+"
    f"|(?<=[^\\W_][.])(?P<stop>[.]*+[{_CLOSERS}]*+)(?= +\\S)"
    ")"
)
_OPENERS = "\"'(“‘「『（【《«¿¡["
# A stop after these ends no sentence as a rule. Words that often stand at a sentence's end (etc, Inc) are not here.
_ABBREVIATION = re.compile(
    "mr|mrs|ms|dr|prof|st|mt|sr|jr|gen|col|lt|capt|sgt|rev|hon|gov|sen|rep|pres|no|nos|figs?|eqs?|sec|ch|vol|pp|eds?"
    "|cf|vs|viz|approx|dept|e[.]g|i[.]e|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|bd|bzw|nr|tab|abb|ca|z[.]b"
    "|mme|mlle|г|им|ул|рис|табл|гл"
)
_WORD_BEFORE = re.compile(r"[^\W_]+(?:[.][^\W_]+)*[.]\Z")
_REACH = 24  # characters before a stop, of which an abbreviation is made


def sentence_starts(starts: NDArray[np.int32], text: str) -> NDArray[np.bool_]:
    """Which pieces begin a sentence, given where each begins in the text.

    Returns:
        (n,) bool; the first is always True.
    """
    found = np.zeros(len(starts), np.bool_)
    ends = np.fromiter(_ends(text), np.int64)
    first = np.concatenate([[0], np.searchsorted(starts, ends)])
    found[first[first < len(starts)]] = True
    return found


def _ends(text: str) -> Iterator[int]:
    for match in _END.finditer(text):
        kind = match.lastgroup
        if kind is None or (kind == "stop" and _is_full_stop(text, match.start(), match.end())):
            yield match.end()


def _is_full_stop(text: str, at: int, end: int) -> bool:
    """Whether the stop at `at` ends a sentence, and none of an abbreviation, an initial or a number in a list."""
    following = text[end : end + 80].lstrip(" ")[:1]
    # A script without small letters has no sign of its own here: any letter may begin a sentence.
    if not (following in _OPENERS or (following.isalnum() and not following.islower())):
        return False
    before = _WORD_BEFORE.search(text, max(0, at - _REACH), at + 1)
    if not before:
        return True
    word = before[0][:-1].lower()
    if word.isdigit():  # where a sentence may begin, it numbers one
        here = text[max(0, before.start() - _REACH) : before.start()].rstrip(" ")
        return not (here == "" or here[-1] in "\n" + _FIRM + "!?….:：")
    is_initial = len(word) == 1 and word.isalpha() and (word.isascii() or text[at - 1].isupper())
    return not is_initial and not _ABBREVIATION.fullmatch(word)
