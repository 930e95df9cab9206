"""A WordPiece vocabulary from text: the same text gives the same vocabulary, byte for byte.

The library's own trainer is not used: for Chinese its result is larger than asked, it adds each distinct
character whatever the size, and equal counts fall as a hash table happens to lie. Here single characters and
merges compete by how often they occur, and ties fall by spelling.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import normalizers, pre_tokenizers

from fenghuo.errors import DataError, RecipeError
from fenghuo.text.folder import bert_files
from fenghuo.text.groups import in_groups
from fenghuo.text.runs import ALONE, RUN
from fenghuo.text.tokenizer import Tokenizer, clean_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Spelled out whatever the text holds, so that no Latin word or number is ever [UNK].
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_WORD = 100  # characters; WordPiece makes a longer one [UNK] unread
_MOST_WORDS = 1_000_000  # distinct ones held while counting: about 150 MB
_MOST_RUNS = 200_000
_LONGEST_RUN = 1 << 16  # characters handed to the library at once
_COUNTED_TOGETHER = 1 << 18  # characters


def train_vocabulary(
    texts: Iterable[str], *, size: int, lowercase: bool = True, min_frequency: int = 2
) -> Tokenizer:
    """A BERT tokenizer whose vocabulary is learnt from `texts`, read once, in bounded memory.

    Special pieces and Latin letters come first. Then, always the most frequent: the next single character (a
    Chinese one has no `##` form; a letter inside a word is another piece, `##x`) or the next merge of two, as
    byte-pair encoding chooses it (Sennrich et al. 2016, arXiv 1508.07909). It ends when `size` is reached or
    nothing is left that occurs `min_frequency` times.

    Args:
        size: pieces at most, the five special ones included ([PAD] is 0).

    Raises:
        RecipeError: `size` has no room for a single character.
        DataError: there is no text.
    """
    if size <= len(SPECIALS):
        raise RecipeError(f"a vocabulary of {size} has no room beside the {len(SPECIALS)} special pieces")
    counts = _Counts(lowercase)
    for text in joined_up(texts):
        counts.add(text)
    characters = counts.characters()
    if not characters and not counts.words:
        raise DataError("no text to learn a vocabulary from")
    spelled = LETTERS if lowercase else LETTERS + CAPITALS
    chosen = [*SPECIALS, *spelled, *(f"##{letter}" for letter in spelled)][:size]
    chosen += _most_frequent(characters, counts.words, set(chosen), size - len(chosen), max(min_frequency, 1))
    return Tokenizer(bert_files(chosen, {"do_lower_case": lowercase}))


class _Counts:
    """How often each lone character, and each word of several characters, occurs in the texts so far."""

    def __init__(self, lowercase: bool) -> None:
        self.words: Counter[str] = Counter()
        self._alone: NDArray[np.int64] = np.zeros(0x10000, np.int64)
        self._runs: Counter[str] = Counter()
        self._normalize = normalizers.BertNormalizer(lowercase=lowercase).normalize_str
        self._cut = pre_tokenizers.BertPreTokenizer().pre_tokenize_str

    def add(self, text: str) -> None:
        clean = clean_characters(text)
        codes = np.frombuffer(clean.encode("utf-32-le"), np.uint32)
        self._alone += np.bincount(codes[codes < 0x10000], minlength=0x10000)
        for run in RUN.findall(clean):
            self._runs.update(run[i : i + _LONGEST_RUN] for i in range(0, len(run), _LONGEST_RUN))
        if len(self._runs) > _MOST_RUNS:
            self.settle()

    def settle(self) -> None:
        """Cut what was seen since the last time into words."""
        for run, times in self._runs.items():
            for word, _ in self._cut(self._normalize(run)):
                if len(word) <= _LONGEST_WORD:
                    self.words[word] += times
        self._runs.clear()
        self.words = bounded(self.words)

    def characters(self) -> Counter[str]:
        """The lone ones; they leave `words`."""
        self.settle()
        seen = (code for code in ALONE if self._alone[code])  # the others are in the runs
        alone = Counter({chr(code): int(self._alone[code]) for code in seen})
        for word in [word for word in self.words if len(word) == 1]:
            alone[word] += self.words.pop(word)
        return alone


def bounded(words: Counter[str]) -> Counter[str]:
    """The counts; the rarer half of a million words is forgotten where there are more."""
    if len(words) <= _MOST_WORDS:
        return words
    return Counter(dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[: _MOST_WORDS // 2]))


def joined_up(texts: Iterable[str]) -> Iterator[str]:
    """The texts, many short ones as one: counting costs something a text."""
    return map("\n".join, in_groups(texts, len, _COUNTED_TOGETHER))


def _most_frequent(
    characters: Counter[str], words: Counter[str], chosen: set[str], room: int, least: int
) -> list[str]:
    """The next `room` pieces, characters and merges together, most frequent first."""
    merges = _Merges(words)
    singles = characters + merges.letters
    queue = sorted(((-count, piece) for piece, count in singles.items() if piece not in chosen), reverse=True)
    found: list[str] = []
    while len(found) < room:
        merge_count = merges.next_count()
        single_count = -queue[-1][0] if queue else 0
        if max(merge_count, single_count) < least:
            break
        # A letter is at least as frequent as any merge it is part of, so it comes before it.
        piece = queue.pop()[1] if single_count >= merge_count else merges.merge()
        if piece not in chosen:  # two ways of merging may spell one piece
            chosen.add(piece)
            found.append(piece)
    return found


class _Merges:
    """Byte-pair merges over counted words, by count and then by spelling."""

    def __init__(self, words: dict[str, int]) -> None:
        self.counts: list[int] = []
        self.spelled: list[list[str]] = []
        self.letters: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for number, (word, count) in enumerate(sorted(words.items())):
            pieces = [word[0], *(f"##{letter}" for letter in word[1:])]
            self.counts.append(count)
            self.spelled.append(pieces)
            for piece in pieces:
                self.letters[piece] += count
            for pair in pairwise(pieces):
                self.pairs[pair] += count
                self.where[pair].add(number)
        self.queue = [(-count, pair) for pair, count in self.pairs.items()]
        heapify(self.queue)

    def next_count(self) -> int:
        """How often the next merge's pieces stand together; 0 where nothing is left to merge."""
        while self.queue:
            count, pair = self.queue[0]
            if self.pairs[pair] == -count:
                return -count
            heappop(self.queue)  # counted before another merge took some of its places
            if self.pairs[pair]:
                heappush(self.queue, (-self.pairs[pair], pair))
        return 0

    def merge(self) -> str:
        """Join the next pair wherever it stands, and say what it spells."""
        _, pair = heappop(self.queue)
        joined = pair[0] + pair[1].removeprefix("##")
        grown: set[tuple[str, str]] = set()
        for number in self.where.pop(pair):
            old, new = self.spelled[number], _joined(self.spelled[number], pair, joined)
            self.spelled[number] = new
            for gone in pairwise(old):
                self.pairs[gone] -= self.counts[number]
            for come in pairwise(new):
                self.pairs[come] += self.counts[number]
                if joined in come:
                    self.where[come].add(number)
                    grown.add(come)
        del self.pairs[pair]
        for come in grown:
            heappush(self.queue, (-self.pairs[come], come))
        return joined


def _joined(pieces: list[str], pair: tuple[str, str], joined: str) -> list[str]:
    new: list[str] = []
    at = 0
    while at < len(pieces):
        if at + 1 < len(pieces) and (pieces[at], pieces[at + 1]) == pair:
            new.append(joined)
            at += 2
        else:
            new.append(pieces[at])
            at += 1
    return new
