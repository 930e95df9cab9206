"""A unigram vocabulary from text (Kudo 2018, arXiv 1804.10959), as ALBERT and XLM-R have it.

The library's trainer is not used: two runs over the same words give other scores (its sums follow the order of a hash
table), and it takes each stretch between blanks for a word. Here sums follow the order of spelling, and words are
counted in bounded memory.
"""

# Shapes: P pieces.
from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from fenghuo.errors import RecipeError
from fenghuo.text.folder import checked
from fenghuo.text.lattice import Lattice
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import CAPITALS, LETTERS
from fenghuo.text.word_counts import count_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from fenghuo.text.words import Segmenter

SPECIALS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
"""ALBERT's."""
_BLANK = "▁"
_COVERED = 0.9995  # share of the text's characters that become pieces: sentencepiece's for Chinese
_LONGEST = 16  # characters of a piece, as in sentencepiece
_SEEDS = 10  # times the size: candidates that training begins with
_MOST_SEEDS = 1_500_000  # counted at once: about 200 MB
_MOST_WORDS = 400_000  # distinct ones learnt from, the most frequent: about 500 MB
_SHRINK = 0.75  # of the candidates outlive a round
_ROUNDS = 2  # of expectation and maximization between two cuts
_LEAST = 0.5  # expected occurrences
_SPECIAL_SCORE = -1000.0  # lower than any spelling of their names, which in a text are text


def train_unigram(
    texts: Iterable[str], *, size: int, segmenter: Segmenter, lowercase: bool = True, min_frequency: int = 2
) -> Tokenizer:
    """A tokenizer of ALBERT's kind, learnt from `texts`, read once, in bounded memory.

    The characters that make 99.95 % of the text are pieces whatever happens; rarer ones are <unk>.

    Args:
        size: pieces at most, the five special ones included (<pad> is 0).
        segmenter: no piece runs across an edge of its words.
        lowercase: fold case and strip accents.
        min_frequency: of a character, and of a candidate.

    Raises:
        RecipeError: `size` has no room for the characters.
        DataError: there is no text.
    """
    normalizer = normalizers.Sequence(
        [
            normalizers.BertNormalizer(handle_chinese_chars=False, lowercase=lowercase),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    counted = count_words(texts, segmenter, normalizer.normalize_str)
    words = {word.replace(" ", _BLANK): times for word, times in counted.items() if word.strip()}
    alphabet = _alphabet(words, max(min_frequency, 1), LETTERS if lowercase else LETTERS + CAPITALS)
    room = size - len(SPECIALS)
    if len(alphabet) >= room:
        least = len(alphabet) + len(SPECIALS) + 1
        raise RecipeError(
            f"a vocabulary of {size} has no room beside {len(SPECIALS)} special pieces and the {len(alphabet):,} "
            f"characters that make {_COVERED:.2%} of the text: a size of {least:,} is the least"
        )
    learnt = _learn(_known_parts(words, alphabet), alphabet, room, max(min_frequency, 2))
    return Tokenizer(checked(_backend(learnt, normalizer).to_str(), {"do_lower_case": lowercase}, None))


def _alphabet(words: Mapping[str, int], least: int, letters: str) -> set[str]:
    counts = _letters(words)
    alphabet = {_BLANK, *letters, *"".join(SPECIALS).lower()}
    if letters.endswith(CAPITALS):
        alphabet |= set("".join(SPECIALS))
    wanted, covered = _COVERED * counts.total(), 0
    for character, times in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted or times < least:
            break
        alphabet.add(character)
        covered += times
    return alphabet


def _letters(words: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for character in word:
            counts[character] += times
    return counts


def _known_parts(words: Mapping[str, int], alphabet: set[str]) -> dict[str, int]:
    """The most frequent words, cut where a character is unknown, in the order of spelling."""
    parts: Counter[str] = Counter()
    for word, times in words.items():
        known = "".join(c if c in alphabet else "\n" for c in word)
        for part in known.split("\n"):
            if part:
                parts[part] += times
    frequent = sorted(parts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS]
    return dict(sorted(frequent))


def _learn(words: dict[str, int], alphabet: set[str], room: int, least: int) -> dict[str, float]:
    """`room` pieces at most, with their scores."""
    seeds = _seeds(words, _SEEDS * room, least)
    pieces = [*sorted(alphabet), *seeds]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    needed_P = np.arange(len(pieces)) < len(alphabet)
    count_W = np.fromiter(words.values(), np.int64, len(words))
    lattice = Lattice(list(words), numbers, longest=_LONGEST)
    others = Lattice(pieces, numbers, longest=_LONGEST, whole=False)
    kept_P = np.ones(len(pieces), np.bool_)
    singles = _letters(words)
    first = [singles[character] for character in pieces[: len(alphabet)]] + list(seeds.values())
    expected_P = np.array(first, np.float64)
    while True:
        for _ in range(_ROUNDS):
            scores_P = _scores(expected_P, kept_P)
            expected_P = lattice.expected(scores_P, count_W)
        lost_P = kept_P & ~needed_P & (expected_P < _LEAST)
        left = int((kept_P & ~lost_P).sum())
        if left > room:
            # What the text's likelihood loses where a piece is spelt in others instead.
            loss_P = np.where(needed_P, np.inf, -np.inf)
            free = np.flatnonzero(kept_P & ~lost_P & ~needed_P)
            loss_P[free] = expected_P[free] * (scores_P - others.best(scores_P))[free]
            order = np.argsort(-loss_P, kind="stable")
            lost_P = kept_P.copy()
            lost_P[order[: max(room, int(_SHRINK * left))]] = False
        if not lost_P.any():
            break
        kept_P &= ~lost_P
        lattice.without(lost_P)
        others.without(lost_P)
        expected_P = np.where(kept_P, expected_P, 0.0)
    rounded = np.round(_scores(expected_P, kept_P), 6)
    return {pieces[number]: float(rounded[number]) for number in np.flatnonzero(kept_P)}


def _seeds(words: Mapping[str, int], most: int, least: int) -> dict[str, int]:
    """Parts of words with two characters or more, with their counts: those that save most if they become pieces."""
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for begin in range(len(word) - 1):
            for end in range(begin + 2, min(begin + _LONGEST, len(word)) + 1):
                counts[word[begin:end]] += times
        if len(counts) > _MOST_SEEDS:
            counts = Counter(dict(_worth_most(counts, _MOST_SEEDS // 2)))
    return {part: times for part, times in _worth_most(counts, most) if times >= least}


def _worth_most(counts: Counter[str], most: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1] * len(item[0]), item[0]))[:most]


def _scores(expected_P: NDArray[np.float64], kept_P: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log-probabilities; a character that is never used is as likely as what occurs half a time."""
    counts_P = np.where(kept_P, np.maximum(expected_P, _LEAST), 0.0)
    with np.errstate(divide="ignore"):
        scores: NDArray[np.float64] = np.log(counts_P) - np.log(counts_P.sum())
    return scores


def _backend(scores: Mapping[str, float], normalizer: Any) -> Any:
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    vocabulary = [*((name, _SPECIAL_SCORE) for name in SPECIALS), *ordered]
    backend: Any = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=SPECIALS.index("<unk>")))
    backend.normalizer = normalizer
    # Where a text begins no blank is thought: a Chinese one has none, and would begin with a piece for it.
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    backend.add_special_tokens(list(SPECIALS))
    cls, sep = (("[CLS]", SPECIALS.index("[CLS]")), ("[SEP]", SPECIALS.index("[SEP]")))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[cls, sep]
    )
    return backend
