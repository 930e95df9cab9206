"""Keeps evaluation honest: finds held-out texts again inside text that a model may learn from.

Texts are compared by a key that forgets what a tokenizer forgets (width, case, white space), in grams of
`GRAM` characters of that key. Dictionaries of grams cost one look-up a character, so a few million
characters take seconds; texts whose key is shorter than a gram cannot be told from ordinary phrases and
must not be held out (`can_be_held_out`).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

GRAM = 8
"""Characters. Eight Chinese characters are four to six words: seldom repeated by chance."""


def key(text: str) -> str:
    """NFKC, lower case, no white space: what two copies of one text have in common."""
    return "".join(unicodedata.normalize("NFKC", text).lower().split())


def can_be_held_out(text: str) -> bool:
    """True where the text is long enough to be found again."""
    return len(key(text)) >= GRAM


def _grams(text_key: str) -> Iterator[str]:
    return (text_key[at : at + GRAM] for at in range(len(text_key) - GRAM + 1))


class HeldOut:
    """Held-out texts, and whether another text gives one of them away."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._owners: dict[str, list[int]] = {}
        self._sizes: list[int] = []
        for number, text in enumerate(texts):
            grams = set(_grams(key(text)))
            if not grams:
                raise ValueError(f"too short to be held out (under {GRAM} characters): {text!r}")
            self._sizes.append(len(grams))
            for gram in grams:
                self._owners.setdefault(gram, []).append(number)

    def near(self, text: str, *, share: float = 0.5) -> bool:
        """True where `text` equals, contains, is part of, or mostly repeats a held-out text.

        "Mostly" means that the two share at least `share` of the grams of the shorter one. A text too short
        to have a gram is near nothing.
        """
        grams = set(_grams(key(text)))
        common = Counter(owner for gram in grams for owner in self._owners.get(gram, ()))
        return any(n >= share * min(len(grams), self._sizes[owner]) for owner, n in common.items())


def found_within(sentences: Sequence[str], texts: Iterable[str]) -> set[int]:
    """The indices of the `sentences` whose keys occur, whole, in the key of some text.

    Sentences shorter than a gram are never found: do not hold them out.
    """
    by_first_gram: dict[str, list[tuple[int, str]]] = {}
    for number, sentence in enumerate(sentences):
        sentence_key = key(sentence)
        if len(sentence_key) >= GRAM:
            by_first_gram.setdefault(sentence_key[:GRAM], []).append((number, sentence_key))
    found: set[int] = set()
    for text in texts:
        text_key = key(text)
        for at, gram in enumerate(_grams(text_key)):
            for number, sentence_key in by_first_gram.get(gram, ()):
                if text_key.startswith(sentence_key, at):
                    found.add(number)
    return found
