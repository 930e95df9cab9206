"""Where words begin: a segmenter's words laid over the pieces of the same text.

Chinese writes no blanks, so "the pieces of one word" has to be asked of a segmenter. It is asked once, when a
corpus is built; shards keep one bit a piece.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fenghuo.errors import RecipeError, did_you_mean, import_extra
from fenghuo.text.tokenizer import clean_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from fenghuo.text.tokenizer import Pieces

_CUT_TOGETHER = 10_000  # characters given to the segmenter at once
_LETTER, _IDEOGRAPH, _ALONE, _BLANK, _UNSEEN = range(5)  # kinds of characters
# What BERT's normalizer sets between blanks; other scripts are cut at blanks and punctuation only.
_IDEOGRAPH_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class Segmenter(Protocol):
    """Cuts text into words."""

    name: str  # with its version: shards made with another segmenter have another fingerprint

    def cut(self, text: str) -> list[tuple[int, int]]:
        """Spans of characters, in order, without overlap, over everything that is not blank."""
        ...


class RjiebaSegmenter:
    """jieba's dictionary and hidden Markov model, in Rust (the `rjieba` package)."""

    def __init__(self) -> None:
        self._cut: Callable[[str], list[str]] = import_extra("rjieba", "train").cut
        self.name = f"rjieba {version('rjieba')}"

    def cut(self, text: str) -> list[tuple[int, int]]:
        """As `Segmenter.cut`; the spans cover blanks too."""
        return [(start, end) for start, end in self.spans(text).tolist()]

    def spans(self, text: str) -> NDArray[np.int64]:
        """`cut` as (n, 2), in a fraction of the time."""
        # `cut` and adding up is three times as fast as `tokenize`, which gives places.
        words = chain.from_iterable(map(self._cut, _parts(clean_characters(text))))
        ends = np.cumsum(np.fromiter(map(len, words), np.int64))
        spans = np.zeros((len(ends), 2), np.int64)
        spans[:, 1] = ends
        spans[1:, 0] = spans[:-1, 1]
        if spans[-1:, 1].sum() != len(text):
            raise RuntimeError(f"{self.name}: its words are not the {len(text)} characters of the text")
        return spans


class PkusegSegmenter:
    """A linear-chain model of characters (Luo et al. 2019, arXiv 1906.11455; the `spacy-pkuseg` package).

    The package has no model in it, and would load one from the network. Here it is one on disk, where the package
    keeps those it has loaded: $PKUSEG_HOME/spacy_ontonotes, or ~/.pkuseg/spacy_ontonotes.

    Raises:
        MissingExtraError: it is not installed.
        RecipeError: there is no model.
    """

    def __init__(self) -> None:
        package = import_extra("spacy_pkuseg", "pkuseg", package="spacy-pkuseg")
        model = Path(package.config.pkuseg_home) / "spacy_ontonotes"
        # Of a folder without these the package reads older files, by pickle, which runs what is in them.
        files = [model / name for name in ("features.msgpack", "weights.npz")]
        if missing := [path.name for path in files if not path.is_file()]:
            raise RecipeError(
                f"segmenter pkuseg: no {' and no '.join(missing)} in {model}; "
                f"download {package.config.model_urls[model.name]} and unpack it there, or set PKUSEG_HOME"
            )
        self._cut: Callable[[str], list[str]] = package.pkuseg(model_name=str(model)).cut
        digest = sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).hexdigest()
        self.name = f"spacy-pkuseg {version('spacy-pkuseg')} {digest[:12]}"

    def cut(self, text: str) -> list[tuple[int, int]]:
        """As `Segmenter.cut`; no span holds a blank."""
        spans, at = list[tuple[int, int]](), 0
        clean = clean_characters(text)
        for word in chain.from_iterable(map(self._cut, _parts(clean))):
            at = clean.index(word, at)  # what lies between is blanks
            spans.append((at, at + len(word)))
            at += len(word)
        return spans


def _parts(text: str) -> Iterator[str]:
    """Long text cut after a line or a 。, where jieba begins anew anyway: on 中中中… its time is quadratic."""
    begin = 0
    while len(text) - begin > _CUT_TOGETHER:
        limit = begin + _CUT_TOGETHER
        end = max(text.rfind("\n", begin, limit), text.rfind("。", begin, limit)) + 1
        end = end if end > begin else limit
        yield text[begin:end]
        begin = end
    yield text[begin:]


SEGMENTERS: dict[str, Callable[[], Segmenter]] = {"rjieba": RjiebaSegmenter, "pkuseg": PkusegSegmenter}


def load_segmenter(name: str) -> Segmenter:
    """The segmenter of that name. Raises RecipeError for an unknown one, MissingExtraError for an absent package."""
    if name not in SEGMENTERS:
        known = ", ".join(sorted(SEGMENTERS))
        raise RecipeError(f"unknown segmenter '{name}'.{did_you_mean(name, SEGMENTERS)}\n  known: {known}")
    return SEGMENTERS[name]()


def spans_of_joined(segmenter: Segmenter, texts: Sequence[str]) -> NDArray[np.int64]:
    """The words of all texts as (n, 2), with places in the texts joined by a line break each."""
    if isinstance(segmenter, RjiebaSegmenter):
        return segmenter.spans("\n".join(texts))  # jieba begins anew after a line: a call a text costs 10 µs
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)]).tolist()
    found = [
        (start + begin, end + begin)
        for text, begin in zip(texts, begins, strict=False)
        for start, end in segmenter.cut(text)
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def ideograph_edges(segmenter: Segmenter, text: str) -> NDArray[np.int64]:
    """The places in `text` where a word of the segmenter begins or ends with an ideograph, (n,) in order."""
    starts = spans_of_joined(segmenter, [text])[:, 0]
    starts = starts[starts > 0]
    ideograph = _kinds(text) == _IDEOGRAPH
    edges: NDArray[np.int64] = starts[ideograph[starts] | ideograph[starts - 1]]
    return edges


def word_starts(
    pieces: Pieces, spans: Sequence[tuple[int, int]] | NDArray[np.int64], text: str
) -> NDArray[np.bool_]:
    """Which pieces begin a word.

    A word is one word of the segmenter; in scripts with blanks the pieces between two blanks, wherever the
    segmenter cuts them; and a punctuation mark alone.

    Args:
        pieces: of `text`.
        spans: of `text`, from a segmenter.

    Returns:
        (n,) bool; the first is always True.
    """
    if not len(pieces):
        return np.zeros(0, np.bool_)
    kinds = _kinds(text)
    at = _first_seen(pieces.starts, pieces.ends, kinds)
    # Two letters stand in one token if nothing that ends a token stands between them.
    token = np.cumsum((kinds != _LETTER) & (kinds != _UNSEEN), dtype=np.int32)[at]
    bounds = np.asarray(spans, np.int64).reshape(-1, 2)
    begins = np.zeros(len(text) + 1, np.int8)
    begins[bounds] = 1
    span = np.cumsum(begins, dtype=np.int32)[at]

    letter, alone = (kinds == _LETTER)[at], (kinds == _ALONE)[at]
    found = np.ones(len(pieces), np.bool_)
    one_span = (span[1:] == span[:-1]) & _covered(bounds, len(text))[at[1:]]
    one_token = (token[1:] == token[:-1]) & letter[1:] & letter[:-1]
    found[1:] = alone[1:] | alone[:-1] | ~(one_span | one_token)
    return found


def _covered(bounds: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """Which characters lie in a span: in rjieba's all, in another segmenter's perhaps not the blanks."""
    if (
        (bounds[1:, 0] == bounds[:-1, 1]).all()
        and bounds[:1, 0].sum() == 0
        and bounds[-1:, 1].sum() == length
    ):
        return np.broadcast_to(np.True_, length)
    depth = np.zeros(length + 1, np.int8)
    np.add.at(depth, bounds[:, 0], 1)
    np.add.at(depth, bounds[:, 1], -1)
    return np.cumsum(depth)[:-1] > 0


def _first_seen(
    starts: NDArray[np.int32], ends: NDArray[np.int32], kinds: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """The first character of each piece that the tokenizer did not skip."""
    seen = np.flatnonzero(kinds != _UNSEEN)
    if len(seen) in (0, len(kinds)):
        return starts.astype(np.int64)
    following = seen[np.minimum(np.searchsorted(seen, starts), len(seen) - 1)]
    return np.where((starts <= following) & (following < ends), following, starts)


def _kinds(text: str) -> NDArray[np.uint8]:
    codes = np.frombuffer(clean_characters(text).encode("utf-32-le"), np.uint32)
    table = _table()
    kinds = table[codes]
    unknown = kinds == 255
    if unknown.any():
        for code in np.unique(codes[unknown]):
            table[code] = _kind(chr(code))
        kinds = table[codes]
    return kinds


@cache
def _table() -> NDArray[np.uint8]:
    return np.full(0x110000, 255, np.uint8)  # filled as characters are met


def is_ideograph(character: str) -> bool:
    """Whether BERT's normalizer sets it between blanks."""
    return any(low <= ord(character) <= high for low, high in _IDEOGRAPH_RANGES)


def _kind(character: str) -> int:
    code = ord(character)
    if is_ideograph(character):
        return _IDEOGRAPH
    category = unicodedata.category(character)
    if category[0] == "Z" or character in "\t\n\r":
        return _BLANK
    if category[0] == "C" or character == "\ufffd":  # BERT's normalizer removes them
        return _UNSEEN
    ascii_mark = 33 <= code <= 126 and not character.isalnum()
    return _ALONE if category[0] == "P" or ascii_mark else _LETTER
