"""Text → pieces, with the place of each piece in the characters of the given text."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from fenghuo.text.folder import Files, read_files, write_files
from fenghuo.text.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_UNUSABLE = re.compile("[\ud800-\udfff\x00]")
_UNUSED = re.compile(r"[\[<](unused|special)\d*[\]>]")  # BERT's and XLM's


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of one text, without special pieces.

    `text[starts[i]:ends[i]]` is what piece i stands for. Neither `starts` nor `ends` ever falls. Characters
    that the normalizer removes belong to no piece, or lie inside one; one may give several pieces (한).
    """

    ids: NDArray[np.int64]  # (n,)
    starts: NDArray[np.int32]  # (n,) in characters (code points) of the given text
    ends: NDArray[np.int32]  # (n,)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Vocabulary:
    """The numbers a model needs to know of a tokenizer."""

    size: int
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    between: tuple[int, ...]  # special pieces between two texts: `[SEP]`; in RoBERTa two `</s>`
    second_segment: int  # of a second text: 1; in RoBERTa 0
    replaceable: NDArray[np.int64]  # ids a random replacement may draw: no special piece, no [unused*]

    def specials(self, *, pair: bool) -> int:
        """How many special pieces stand around one text or two."""
        return 2 + pair * len(self.between)


def clean_characters(text: str) -> str:
    """Lone surrogates and NUL become U+FFFD, one for one, so that offsets hold."""
    try:
        text.encode()  # a tenth of the time of a search
    except UnicodeEncodeError:
        return _UNUSABLE.sub("\ufffd", text)
    return text.replace("\0", "\ufffd")


class Tokenizer:
    """A tokenizer of the `tokenizers` library with the names of its special pieces."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._backend: Any = tokenizers.Tokenizer.from_str(files.tokenizer_json)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._fast = Runs.of(self._backend)
        # Sentencepiece writes a word as "▁word", and the library takes the blank before it for its first character.
        self._blank_is_piece = self._fast is None and "Metaspace" in json.dumps(
            json.loads(files.tokenizer_json)["pre_tokenizer"]
        )

    @classmethod
    def load(cls, folder_or_file: Path) -> Tokenizer:
        """Read a model folder (`tokenizer.json`, else `vocab.txt`, else `vocab.json`), or one of these files.

        A `vocab.txt` alone is read as BERT's; it lower-cases unless a `tokenizer_config.json` there says no. A
        `vocab.json` with `merges.txt` beside it is read as RoBERTa's.

        Raises:
            ModelError: missing or damaged files, a piece given twice, a special piece that is absent.
        """
        return cls(read_files(folder_or_file))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json; for WordPiece vocab.txt, for byte
        pairs over bytes vocab.json and merges.txt.

        transformers' `AutoTokenizer` reads the folder: same pieces, same offsets, same framing.
        """
        write_files(self.files, folder)

    def plain(self) -> Tokenizer:
        """The same tokenizer, to which a literal `[MASK]` in the text is text like any other: for corpora."""
        twin = Tokenizer(self.files)
        twin._backend.encode_special_tokens = True
        return twin

    @cached_property
    def vocabulary(self) -> Vocabulary:
        ids = self.files.specials
        names = self.pieces()
        specials = {
            piece["id"] for piece in json.loads(self.files.tokenizer_json)["added_tokens"] if piece["special"]
        }
        replaceable = [
            i
            for i, name in enumerate(names)
            if i not in specials and i not in ids.values() and not _UNUSED.fullmatch(name)
        ]
        return Vocabulary(
            size=len(names),
            pad=ids["pad_token"],
            unk=ids["unk_token"],
            cls=ids["cls_token"],
            sep=ids["sep_token"],
            mask=ids["mask_token"],
            between=self.files.framing.between,
            second_segment=self.files.framing.second,
            replaceable=np.array(replaceable, np.int64),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits: equal where the same text gives the same pieces and the same special pieces."""
        parts = json.loads(self.files.tokenizer_json)
        decisive = {key: parts.get(key) for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
        decisive["specials"] = self.files.specials
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def pieces(self) -> list[str]:
        """Every piece by its id."""
        return list(self.files.pieces)

    def encode(self, text: str) -> Pieces:
        """One text's pieces. Any `str` is right: lone surrogates, NUL and the empty text too."""
        text = clean_characters(text)
        if self._fast is not None:
            return Pieces(*self._fast.encode(text))
        encoding = self._backend.encode(text, add_special_tokens=False)
        return self._pieces(encoding, text)

    def encode_batch(self, texts: Sequence[str]) -> list[Pieces]:
        """As `encode`, for many texts; where `runs.py` does not apply, the library's threads work."""
        if self._fast is not None:
            return _split(*self.encode_joined(texts), texts)
        texts = [clean_characters(text) for text in texts]
        found = self._backend.encode_batch(texts, add_special_tokens=False)
        return [self._pieces(encoding, text) for encoding, text in zip(found, texts, strict=True)]

    def encode_joined(self, texts: Sequence[str]) -> tuple[Pieces, NDArray[np.int64]]:
        """The pieces of all texts, with places in the texts joined by one character each, and each text's number."""
        begins = np.cumsum([0, *(len(text) + 1 for text in texts)]).astype(np.int32)
        if self._fast is not None:
            pieces = self.encode("\n".join(texts))
            return pieces, np.diff(np.searchsorted(pieces.starts, begins))
        each = self.encode_batch(texts)
        lengths = np.array(list(map(len, each)), np.int64)
        shift = np.repeat(begins[:-1], lengths)
        joined = Pieces(
            ids=np.concatenate([np.zeros(0, np.int64), *(pieces.ids for pieces in each)]),
            starts=np.concatenate([np.zeros(0, np.int32), *(pieces.starts for pieces in each)]) + shift,
            ends=np.concatenate([np.zeros(0, np.int32), *(pieces.ends for pieces in each)]) + shift,
        )
        return joined, lengths

    def _pieces(self, encoding: Any, text: str) -> Pieces:
        places = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        starts, ends = places[:, 0].copy(), places[:, 1].copy()
        if self._blank_is_piece:
            for number, (start, end) in enumerate(places.tolist()):
                starts[number] += len(text[start:end]) - len(text[start:end].lstrip())
        return Pieces(ids=np.array(encoding.ids, np.int64), starts=starts, ends=ends)


def enclose(vocabulary: Vocabulary, pieces: NDArray[Any]) -> NDArray[np.int64]:
    """`[CLS] pieces [SEP]`: (n + 2,) ids."""
    return np.concatenate([[vocabulary.cls], pieces, [vocabulary.sep]]).astype(np.int64, copy=False)


def frame(
    vocabulary: Vocabulary, a: NDArray[Any], b: NDArray[Any] | None, *, max_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]`, cut to `max_length` pieces, specials included; as the tokenizer
    has it, which in RoBERTa is `<s> a </s></s> b </s>`, in XLM `</s> a </s> b </s>`.

    The longer text is cut first, from its end; where both are long each gets half, and the odd piece goes to
    the longer one, or to `b` if they are equal (as `longest_first` of the `tokenizers` library does it).

    Returns:
        ids (n,) and segments (n,): 0 up to the first `[SEP]`, 1 after it; in RoBERTa 0 throughout.

    Raises:
        ValueError: `max_length` leaves no room for the special pieces.
    """
    room = max_length - vocabulary.specials(pair=b is not None)
    if room < 0:
        raise ValueError(f"max_length {max_length} has no room for the special pieces")
    if b is None:
        ids = enclose(vocabulary, a[:room])
        return ids, np.zeros(len(ids), np.int64)
    of_a, of_b = _shares(len(a), len(b), room)
    parts = ([vocabulary.cls], a[:of_a], vocabulary.between, b[:of_b], [vocabulary.sep])
    ids = np.concatenate(parts).astype(np.int64)
    first = 1 + of_a + len(vocabulary.between)
    return ids, (np.arange(len(ids)) >= first) * np.int64(vocabulary.second_segment)


def _shares(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    if length_a + length_b <= room:
        return length_a, length_b
    shorter = min(length_a, length_b)
    if 2 * shorter > room:
        shorter = room // 2
    return (room - shorter, shorter) if length_a > length_b else (shorter, room - shorter)


def _split(pieces: Pieces, lengths: NDArray[np.int64], texts: Sequence[str]) -> list[Pieces]:
    """The pieces of texts that were joined by one character each."""
    found, first, shift = [], 0, 0
    for text, length in zip(texts, lengths.tolist(), strict=True):
        one = slice(first, first + length)
        found.append(Pieces(pieces.ids[one], pieces.starts[one] - shift, pieces.ends[one] - shift))
        first, shift = first + length, shift + len(text) + 1
    return found
