"""Text → pieces, with the place of each piece in the characters of the given text.

The work is done by the `tokenizers` library. For the BERT kind this module cuts the text first: BERT's
normalizer and WordPiece treat a Chinese character or mark, and a run of others between two blanks, without a
look at their neighbours. So a Chinese character is one look-up in a table, a run seen before comes from a
cache, and the library sees only new runs. The result is the library's own (a property test compares them).
"""

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_UNUSABLE = re.compile("[\ud800-\udfff\x00]")
# What BERT's rules set apart from its neighbours, and change by no Unicode normalization: two blocks of ideographs,
# and the punctuation of Chinese text.
_PUNCTUATION = "，。、；：？！（）《》〈〉「」『』【】“”‘’…—·"
ALONE = (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *map(ord, _PUNCTUATION))
# The blanks BERT's normalizer keeps as blanks (it removes other control characters, joining what stands beside).
RUN = re.compile(f"[^ \t\n\r\u3000\u3400-\u4dbf\u4e00-\u9fff{_PUNCTUATION}]+")
_CACHED_RUNS = 1 << 17  # about 60 MB when full
_LONGEST_CACHED_RUN = 64  # characters


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
    replaceable: NDArray[np.int64]  # ids a random replacement may draw: no special piece, no [unused*]


def clean_characters(text: str) -> str:
    """Lone surrogates and NUL become U+FFFD, one for one, so that offsets hold."""
    return _UNUSABLE.sub("\ufffd", text) if _UNUSABLE.search(text) else text


class Tokenizer:
    """A tokenizer of the `tokenizers` library with the names of its special pieces."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._backend: Any = tokenizers.Tokenizer.from_str(files.tokenizer_json)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._runs: dict[str, tuple[list[int], list[int], list[int]]] = {}
        self._table = _lone_table(json.loads(files.tokenizer_json))

    @classmethod
    def load(cls, folder_or_file: Path) -> Tokenizer:
        """Read a model folder (`tokenizer.json`, else `vocab.txt`), or one of these files.

        A `vocab.txt` alone is read as BERT's; it lower-cases unless a `tokenizer_config.json` there says no.

        Raises:
            ModelError: missing or damaged files, a piece given twice, a special piece that is absent.
        """
        return cls(read_files(folder_or_file))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json; for WordPiece vocab.txt.

        transformers' `AutoTokenizer` reads the folder as a `BertTokenizerFast`: same pieces, same offsets.
        """
        write_files(self._files, folder)

    def plain(self) -> Tokenizer:
        """The same tokenizer, to which a literal `[MASK]` in the text is text like any other: for corpora."""
        twin = Tokenizer(self._files)
        twin._backend.encode_special_tokens = True
        return twin

    @cached_property
    def vocabulary(self) -> Vocabulary:
        ids = self._files.specials
        names = self.pieces()
        specials = {
            piece["id"]
            for piece in json.loads(self._files.tokenizer_json)["added_tokens"]
            if piece["special"]
        }
        replaceable = [
            i
            for i, name in enumerate(names)
            if i not in specials and i not in ids.values() and not re.fullmatch(r"[\[<]unused\d*[\]>]", name)
        ]
        return Vocabulary(
            size=len(names),
            pad=ids["pad_token"],
            unk=ids["unk_token"],
            cls=ids["cls_token"],
            sep=ids["sep_token"],
            mask=ids["mask_token"],
            replaceable=np.array(replaceable, np.int64),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits: equal where the same text gives the same pieces and the same special pieces."""
        parts = json.loads(self._files.tokenizer_json)
        decisive = {key: parts.get(key) for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
        decisive["specials"] = self._files.specials
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def pieces(self) -> list[str]:
        """Every piece by its id."""
        return list(self._files.pieces)

    def encode(self, text: str) -> Pieces:
        """One text's pieces. Any `str` is right: lone surrogates, NUL and the empty text too."""
        text = clean_characters(text)
        return self._by_library(text) if self._table is None else self._by_runs(text, self._table)

    def encode_batch(self, texts: Sequence[str]) -> list[Pieces]:
        """As `encode`, for many texts; where the fast way does not apply, the library's threads work."""
        if self._table is not None:
            return _split(self.encode("\n".join(texts)), texts)
        found = self._backend.encode_batch(
            [clean_characters(text) for text in texts], add_special_tokens=False
        )
        return [_pieces(encoding.ids, encoding.offsets) for encoding in found]

    def _by_library(self, text: str) -> Pieces:
        encoding = self._backend.encode(text, add_special_tokens=False)
        return _pieces(encoding.ids, encoding.offsets)

    def _by_runs(self, text: str, table: NDArray[np.int32]) -> Pieces:
        ids: list[int] = []
        starts: list[int] = []
        ends: list[int] = []
        run_starts: list[int] = []
        counts: list[int] = []
        for match in RUN.finditer(text):
            run_ids, run_from, run_to = self._run(match.group())
            ids += run_ids
            starts += run_from
            ends += run_to
            run_starts.append(match.start())
            counts.append(len(run_ids))
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        found = table[np.minimum(codes, len(table) - 1)]
        places = np.flatnonzero(found >= 0).astype(np.int32)
        shift = np.repeat(np.array(run_starts, np.int32), counts)
        all_ids = np.concatenate([found[places], np.array(ids, np.int32)]).astype(np.int64)
        all_starts = np.concatenate([places, np.array(starts, np.int32) + shift])
        all_ends = np.concatenate([places + np.int32(1), np.array(ends, np.int32) + shift])
        order = np.argsort(all_starts, kind="stable")
        return Pieces(ids=all_ids[order], starts=all_starts[order], ends=all_ends[order])

    def _run(self, run: str) -> tuple[list[int], list[int], list[int]]:
        known = self._runs.get(run)
        if known is None:
            encoding = self._backend.encode(run, add_special_tokens=False)
            offsets = encoding.offsets
            known = (encoding.ids, [a for a, _ in offsets], [b for _, b in offsets])
            if len(run) <= _LONGEST_CACHED_RUN:
                if len(self._runs) >= _CACHED_RUNS:
                    self._runs.clear()  # rarer and simpler than keeping an order of use
                self._runs[run] = known
        return known


def frame(
    vocabulary: Vocabulary, a: NDArray[Any], b: NDArray[Any] | None, *, max_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]`, cut to `max_length` pieces, specials included.

    The longer text is cut first, from its end; where both are long each gets half, and the odd piece goes to
    the longer one, or to `b` if they are equal (as `longest_first` of the `tokenizers` library does it).

    Returns:
        ids (n,) and segments (n,): 0 up to the first `[SEP]`, 1 after it.

    Raises:
        ValueError: `max_length` leaves no room for the special pieces.
    """
    room = max_length - (2 if b is None else 3)
    if room < 0:
        raise ValueError(f"max_length {max_length} has no room for the special pieces")
    cls, sep = [vocabulary.cls], [vocabulary.sep]
    if b is None:
        ids = np.concatenate([cls, a[:room], sep]).astype(np.int64)
        return ids, np.zeros(len(ids), np.int64)
    of_a, of_b = _shares(len(a), len(b), room)
    ids = np.concatenate([cls, a[:of_a], sep, b[:of_b], sep]).astype(np.int64)
    return ids, (np.arange(len(ids)) >= of_a + 2).astype(np.int64)


def _shares(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    if length_a + length_b <= room:
        return length_a, length_b
    shorter = min(length_a, length_b)
    if 2 * shorter > room:
        shorter = room // 2
    return (room - shorter, shorter) if length_a > length_b else (shorter, room - shorter)


def _pieces(ids: Sequence[int], offsets: Iterable[tuple[int, int]]) -> Pieces:
    places = np.array(offsets, np.int32).reshape(-1, 2)
    return Pieces(ids=np.array(ids, np.int64), starts=places[:, 0].copy(), ends=places[:, 1].copy())


def _split(pieces: Pieces, texts: Sequence[str]) -> list[Pieces]:
    """The pieces of texts that were joined by one character each."""
    text_starts = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])]).astype(np.int32)
    first = np.searchsorted(pieces.starts, text_starts)
    return [
        Pieces(pieces.ids[a:b], pieces.starts[a:b] - shift, pieces.ends[a:b] - shift)
        for a, b, shift in zip(first[:-1], first[1:], text_starts[:-1], strict=True)
    ]


def _lone_table(parts: dict[str, Any]) -> NDArray[np.int32] | None:
    """Code point → id of the piece of that lone character, or -1; None where no look at one alone is right."""
    normalizer, before, model = parts["normalizer"] or {}, parts["pre_tokenizer"] or {}, parts["model"]
    alone = (
        normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and normalizer["handle_chinese_chars"]
        and before.get("type") == "BertPreTokenizer"
        and model["type"] == "WordPiece"
        and not any(
            piece["lstrip"]
            or piece["rstrip"]
            or piece["single_word"]
            or not re.fullmatch("[!-~]+", piece["content"])
            for piece in parts["added_tokens"]
        )
    )
    if not alone:
        return None
    unknown = model["vocab"][model["unk_token"]]
    table = np.full(0x10000, -1, np.int32)  # its last, U+FFFF, stands for all characters beyond
    for code in ALONE:
        table[code] = model["vocab"].get(chr(code), unknown)
    return table


def _within_a_run(added: dict[str, Any]) -> bool:
    """Whether an added piece is found, or not, without a look beyond the run that it stands in."""
    looks_beyond = added["lstrip"] or added["rstrip"] or added["single_word"]
    return not looks_beyond and bool(re.fullmatch("[!-~]+", added["content"]))
