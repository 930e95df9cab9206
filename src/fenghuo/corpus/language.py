"""Which language a document is in, and Chinese in simplified characters; both from packages of the extra `clean`."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from fenghuo.errors import RecipeError, did_you_mean, import_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WINDOW = 1_000  # characters that are looked at in the beginning, in the middle and at the end
_FEWEST_LETTERS = 10  # of Chinese and Japanese, which the characters themselves give away
_FEWEST_GUESSED = 20  # of others, where py3langid must be asked
_HAN_SHARE = (
    10  # one in so many letters; a Chinese character says about as much as a word of ten with its code
)
_KANA_SHARE = 10  # one for so many Chinese characters
_CHINESE = ("wuu", "yue", "lzh", "gan", "hak", "nan", "cdo")  # are "zh" here, where they are known at all
_LEAST = 0.2  # probability of the wanted languages together

_HAN = re.compile("[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd]+")
_KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f]+")
_NO_LETTERS = re.compile(r"[\W\d_]+")


class Languages:
    """Judges whether a document is in one of the wanted languages.

    Looked at are the first, the middle and the last thousand characters. Where one letter in ten at least is a
    Chinese character, the document is Chinese, whatever code and English stand between, or Japanese where there is
    more than one kana for ten of them. Of any other text, py3langid must give the wanted languages together a
    probability of 0.2 at least. Texts with too few letters to judge (10; 20 where py3langid is asked) are wanted.

    Args:
        wanted: ISO 639-1 codes.

    Raises:
        RecipeError: a code that py3langid does not know.
        MissingExtraError: py3langid is not installed.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        self._rank, known = _identifier()
        for code in wanted:
            if code not in known:
                hint = did_you_mean(code, known)
                raise RecipeError(
                    f"clean.languages: '{code}' is no language that is known here.{hint}"
                    f"\n  known: {', '.join(sorted(known))}"
                )
        self.wanted = frozenset([*wanted, *(_CHINESE if "zh" in wanted else ())])

    def foreign(self, text: str) -> str | None:
        """The language of a document in none of the wanted languages; None for one that is, or may be."""
        sample = _sample(text)
        others = _HAN.sub("", sample)
        han = len(sample) - len(others)
        letters = han + len(_NO_LETTERS.sub("", others))
        if letters < _FEWEST_LETTERS:
            return None
        if han * _HAN_SHARE >= letters:
            language = "ja" if is_japanese(sample, han) else "zh"
            return None if language in self.wanted else language
        if letters < _FEWEST_GUESSED:
            return None
        ranked = self._rank(sample)
        if sum(probability for language, probability in ranked if language in self.wanted) >= _LEAST:
            return None
        return next(str(language) for language, _ in ranked if language not in self.wanted)


def is_japanese(text: str, han: int) -> bool:
    """Whether there are more kana than beside so many Chinese characters in Chinese text."""
    return sum(map(len, _KANA.findall(text))) * _KANA_SHARE > han


def chinese_characters(text: str) -> int:
    """How many Chinese characters a text has."""
    return len(text) - len(_HAN.sub("", text))


def letters(text: str) -> int:
    """How many letters a text has, Chinese characters among them."""
    return len(_NO_LETTERS.sub("", text))


@cache
def simplifier() -> Callable[[str], str]:
    """Traditional → simplified characters, by words (OpenCC, configuration t2s). Raises MissingExtraError.

    A Japanese text is given back as it is: 語 and 図 are no traditional Chinese there.
    """
    convert: Callable[[str], str] = import_extra("opencc", "clean").OpenCC("t2s").convert

    def simplify(text: str) -> str:
        try:
            simple = convert(text)
        except UnicodeError:  # a lone surrogate, where control characters are left in
            return text
        return text if simple == text or is_japanese(text, chinese_characters(text)) else simple

    return simplify


@cache
def _identifier() -> tuple[Any, list[str]]:
    package = import_extra("py3langid.langid", "clean")
    found = package.LanguageIdentifier.from_model_file(package.MODEL_FILE, norm_probs=True)
    return found.rank, list(found.labels)


def _sample(text: str) -> str:
    if len(text) <= 3 * _WINDOW:
        return text
    middle = len(text) // 2
    return "\n".join([text[:_WINDOW], text[middle : middle + _WINDOW], text[-_WINDOW:]])
