"""What is mended in a document's characters and lines, and which documents are left out; every rule counts."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from dataclasses import dataclass, field
from operator import ne
from typing import TYPE_CHECKING, Any

import numpy as np

from fenghuo.corpus.language import Languages, chinese_characters, letters, simplifier
from fenghuo.corpus.markup import without_markup
from fenghuo.text.tokenizer import clean_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fenghuo.corpus.recipe import CleanRecipe

SAMPLES = 3  # kept for each rule
_SAMPLE_CHARACTERS = 80
_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Control, zero-width, direction and annotation marks, soft hyphen, and U+FFFD, which stands for what was lost.
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\uffff]"
)
_BLANKS = re.compile("[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_BLANK_LINES = re.compile(" ?\n[ \n]*")
# A line of addresses can be taken apart in many ways, `a@b.cn-c@d.cn` at each letter. So that it is tried in one alone,
# nothing gives back what it took (++, *+), and that one is right wherever any is: an address of the web takes all up to
# a blank, and one of mail all that can be the next one's name, but no address of the web that begins in it.
_WEB = r"(?:(?:https?|ftp)://|www\.)[!-~]"
_MAIL_HOST = rf"@[\w-]++\.(?![\w.-]@)[\w.-](?:(?!{_WEB})[\w.-])*+(?:\+[\w.+-]*+(?=@))?+"
_ADDRESS_LINE = re.compile(
    rf"(?:-*+{_WEB}++|[\w.+-]++(?:{_MAIL_HOST})++|[\s<>()（）:：,，;；、|]++|-++)++", re.ASCII | re.IGNORECASE
)
_NO_LETTER = re.compile(r"[\W_]*")
# NFKC turns these into ASCII, which Chinese text does not use; they sit it out as noncharacters.
_PUNCTUATION = "！（），：；？～…"
_SHELTER = "".join(chr(0xFDD0 + i) for i in range(len(_PUNCTUATION)))
_REPETITION_HEAD = 1_000  # characters that are packed; the whole text would cost more than all other rules
_SHORTEST_REPETITION_BYTES = 300  # zlib's overhead hides repetition in less


@dataclass
class Count:
    """How often a rule applied, how many characters it took away or replaced, and a few samples."""

    count: int = 0
    characters: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, text: str, characters: int) -> None:
        self.count += 1
        self.characters += characters
        if len(self.samples) < SAMPLES:
            self.samples.append(text[:_SAMPLE_CHARACTERS])

    def to_json(self) -> dict[str, Any]:
        return {"count": self.count, "characters": self.characters, "samples": self.samples}


def _shortened(before: str, after: str) -> int:
    """The characters gone, by a rule that takes some away or, where none, puts others in their places."""
    return len(before) - len(after) or sum(map(ne, before, after))


def _replaced(before: str, after: str) -> int:
    """The characters gone, whatever stands for them: `㎏` → `kg` is one, though the text grows."""
    return (Counter(before) - Counter(after)).total()


class Cleaner:
    """The rules of a recipe, with their counts: what was mended, and which documents were left out."""

    def __init__(self, recipe: CleanRecipe) -> None:
        self.recipe = recipe
        self._simplify = simplifier() if recipe.simplified else None
        self._languages = Languages(recipe.languages) if recipe.languages else None
        self.mended: dict[str, Count] = {}
        self.left_out: dict[str, Count] = {}

    def __call__(self, text: str) -> str | None:
        """The cleaned text, or None for a document to leave out."""
        cleaned = text
        if (
            not cleaned.replace("\n", "").isprintable() or "\ufffd" in cleaned
        ):  # many times faster than a search
            cleaned = _BREAKS.sub("\n", clean_characters(cleaned))
            if self.recipe.controls:
                cleaned = self._noted("controls", cleaned, _CONTROLS.sub("", cleaned))
        if self.recipe.nfkc:
            cleaned = self._noted("nfkc", cleaned, fold(cleaned), _replaced)
        if self._simplify:
            cleaned = self._noted("simplified", cleaned, self._simplify(cleaned), _replaced)
        if self.recipe.markup:
            cleaned = self._noted("markup", cleaned, without_markup(cleaned))
        if self.recipe.blanks:
            cleaned = self._noted("blanks", cleaned, _single_blanks(cleaned))
        if self.recipe.boilerplate:
            cleaned = self._without_boilerplate(cleaned)
        reason = self._reason_to_leave_out(cleaned)
        if reason:
            self.left_out.setdefault(reason, Count()).add(text, len(text))
            return None
        return cleaned

    def _noted(
        self, rule: str, before: str, after: str, changed: Callable[[str, str], int] = _shortened
    ) -> str:
        if after != before:
            self.mended.setdefault(rule, Count()).add(before, changed(before, after))
        return after

    def _without_boilerplate(self, text: str) -> str:
        addresses = "//" in text or "@" in text or "www." in text.lower()
        gone = [
            line
            for line in text.split("\n")
            if line and (_NO_LETTER.fullmatch(line) or (addresses and _ADDRESS_LINE.fullmatch(line)))
        ]
        if not gone:
            return text
        for line in gone:
            self.mended.setdefault("boilerplate_lines", Count()).add(line, len(line))
        without = set(gone)
        return "\n".join(line for line in text.split("\n") if line not in without)

    def _reason_to_leave_out(self, text: str) -> str | None:
        if len(text) - sum(map(text.count, " \n\t\u3000")) < max(self.recipe.min_characters, 1):
            return "too_short" if text else "nothing_left"
        if self.recipe.repetition and _packs_below(self.recipe.repetition, text[:_REPETITION_HEAD]):
            return "repetitive"
        return self._reason_by_share(text) or self._reason_by_language(text)

    def _reason_by_share(self, text: str) -> str | None:
        recipe = self.recipe
        if recipe.letters or recipe.chinese:
            visible = len(text) - text.count(" ") - text.count("\n")
            if letters(text) < recipe.letters * visible:
                return "few_letters"
            if chinese_characters(text) < recipe.chinese * visible:
                return "little_chinese"
        if recipe.repeated_lines < 1 and _repeated_share(text) > recipe.repeated_lines:
            return "repeated_lines"
        return None

    def _reason_by_language(self, text: str) -> str | None:
        language = self._languages and self._languages.foreign(text)
        return f"language_{language}" if language else None


def fold(text: str) -> str:
    """NFKC, but for Chinese full-width punctuation: `ａ１，` → `a1，`."""
    if unicodedata.is_normalized("NFKC", text):
        return text
    for mark, stand_in in zip(_PUNCTUATION, _SHELTER, strict=True):
        text = text.replace(mark, stand_in)
    text = unicodedata.normalize("NFKC", text)
    for mark, stand_in in zip(_PUNCTUATION, _SHELTER, strict=True):
        text = text.replace(stand_in, mark)
    return text


def add_up(counts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several parts as one, with the samples of the first."""
    total: dict[str, Any] = {}
    for part in counts:
        for rule, count in part.items():
            so_far = total.setdefault(rule, Count().to_json())
            so_far["count"] += count["count"]
            so_far["characters"] += count["characters"]
            so_far["samples"] = (so_far["samples"] + count["samples"])[:SAMPLES]
    return dict(sorted(total.items()))


def _single_blanks(text: str) -> str:
    if "  " in text or not text.replace("\n", "").isprintable():
        text = _BLANKS.sub(" ", text)
    if "\n\n" in text or " \n" in text or "\n " in text:
        text = _BLANK_LINES.sub("\n", text)
    return text.strip(" \n")


def _repeated_share(text: str) -> float:
    """The share of the characters that stands in lines which stood in the text before."""
    lines = text.split("\n")
    distinct = set(lines)
    if len(distinct) == len(lines):
        return 0.0
    everything = sum(map(len, lines))
    return (everything - sum(map(len, distinct))) / everything


def _packs_below(share: float, text: str) -> bool:
    data = text.encode()
    if len(data) < _SHORTEST_REPETITION_BYTES:
        return False
    # Each distinct character must be spelled out once, in about two bytes: then there is no need to pack.
    if 2 * _distinct(text) > share * len(data):
        return False
    return len(zlib.compress(data, 1)) < share * len(data)


def _distinct(text: str) -> int:
    """How many different characters; a set of them takes seven times as long."""
    codes = np.sort(np.frombuffer(text.encode("utf-32-le"), np.uint32))
    return int(np.count_nonzero(codes[1:] != codes[:-1])) + 1
