"""A tokenizer with fewer pieces that cuts the texts it covers as before.

Why leaving pieces out changes nothing for a text whose own pieces stay:

- WordPiece takes the longest piece that fits. What it took stays, and nothing longer is added. A word that it gave up
  halfway ([UNK]) must go on to end there, so the pieces on the way to that place count as used.
- Byte-pair encoding joins the first pair of its list that stands in the word. Every pair that can make a kept piece, or
  a part of one, stays, in the old order: the same pairs are joined at the same moments.
- Unigram takes the most likely way. What it took stays; no way is added; the least likely piece stays too, since the
  price of an unknown character is reckoned from it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from fenghuo.errors import ModelError, UsageError
from fenghuo.text.folder import checked
from fenghuo.text.tokenizer import Tokenizer, clean_characters
from fenghuo.text.words import is_ideograph

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from fenghuo.text.folder import Files

_KNOWN = ("WordPiece", "BPE", "Unigram", "WordLevel")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # what spells unknown characters where a model falls back to bytes
_BLANK, _WORD_END = "▁", "</w>"


class PieceUse:
    """How often texts use each piece.

    Raises:
        ModelError: a kind of pieces that is not known here.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.counts: NDArray[np.int64] = np.zeros(tokenizer.vocabulary.size, np.int64)
        self.unknown = 0
        self._tokenizer = tokenizer
        self._backend: Any = tokenizers.Tokenizer.from_str(tokenizer.files.tokenizer_json)
        self._model = json.loads(tokenizer.files.tokenizer_json)["model"]
        self._given_up: dict[str, list[int]] = {}
        if self._model["type"] not in _KNOWN:
            raise ModelError(
                f"pieces of the kind {self._model['type']} are not pruned; known: {', '.join(_KNOWN)}"
            )

    def add(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Count the pieces of some texts, and return them."""
        found = self._tokenizer.encode_batch(texts)
        unk, size = self._tokenizer.vocabulary.unk, len(self.counts)
        for text, pieces in zip(texts, found, strict=True):
            self.counts += np.bincount(pieces.ids, minlength=size)
            unknown = np.flatnonzero(pieces.ids == unk)
            self.unknown += len(unknown)
            if self._model["type"] == "WordPiece":
                for number in unknown.tolist():
                    self._count_given_up(clean_characters(text[pieces.starts[number] : pieces.ends[number]]))
        return [pieces.ids for pieces in found]

    def _count_given_up(self, surface: str) -> None:
        if len(surface) < 2:
            return
        if surface not in self._given_up:
            if len(self._given_up) > 100_000:  # about 20 MB
                self._given_up.clear()
            before, cut = self._backend.normalizer, self._backend.pre_tokenizer
            normal = surface if before is None else before.normalize_str(surface)
            words = [normal] if cut is None else [word for word, _ in cut.pre_tokenize_str(normal)]
            self._given_up[surface] = [piece for word in words for piece in self._on_the_way(word)]
        np.add.at(self.counts, self._given_up[surface], 1)

    def _on_the_way(self, word: str) -> list[int]:
        """The pieces that WordPiece finds in a word up to the place where none fits."""
        vocabulary, mark = self._model["vocab"], self._model["continuing_subword_prefix"]
        begin, path = 0, list[int]()
        while begin < len(word) <= self._model["max_input_chars_per_word"]:
            ends = range(len(word), begin, -1)
            end = next((e for e in ends if (mark if begin else "") + word[begin:e] in vocabulary), 0)
            if not end:
                return path
            path.append(vocabulary[(mark if begin else "") + word[begin:end]])
            begin = end
        return []


def kept_pieces(
    tokenizer: Tokenizer,
    counts: NDArray[np.int64],
    *,
    always: Iterable[int] = (),
    characters: bool = False,
    min_frequency: int = 1,
    size: int | None = None,
) -> NDArray[np.int64]:
    """Which pieces stay, (n,) ids in order: all that text needs that is used, most frequent first where room is short.

    Special and added pieces, ASCII letters, figures and marks, and bytes stay whatever was counted.

    Args:
        counts: (V,) of `PieceUse`.
        always: more ids that stay.
        characters: every single character stays too.
        min_frequency: of a piece that is not among those that stay anyway.
        size: pieces at most.

    Raises:
        UsageError: `size` has no room for what stays anyway.
    """
    parts = json.loads(tokenizer.files.tokenizer_json)
    made_of = _made_of(parts["model"])
    kept: set[int] = set()
    for piece in (*_needed(tokenizer.files, parts, characters), *always):
        kept |= _with_parts(piece, made_of, kept)
    if size is not None and len(kept) > size:
        raise UsageError(
            f"--size {size}: {len(kept):,} pieces stay in any case (special ones, letters, figures, marks, what is "
            "asked for); a larger size has room for pieces of the text"
        )
    frequent = np.flatnonzero(counts >= max(min_frequency, 1))
    for piece in frequent[np.argsort(-counts[frequent], kind="stable")].tolist():
        new = _with_parts(piece, made_of, kept)
        if size is None or len(kept) + len(new) <= size:
            kept |= new
    return np.array(sorted(kept), np.int64)


def prune_tokenizer(tokenizer: Tokenizer, kept: NDArray[np.int64]) -> Tokenizer:
    """The tokenizer with these pieces alone, numbered anew in the old order; `kept` as of `kept_pieces`."""
    parts = json.loads(tokenizer.files.tokenizer_json)
    new_of = {old: new for new, old in enumerate(kept.tolist())}
    _cut_model(parts["model"], new_of)
    parts["added_tokens"] = [{**one, "id": new_of[one["id"]]} for one in parts["added_tokens"]]
    parts["padding"] = parts["truncation"] = None
    if parts["post_processor"] is not None:
        _renumber(parts["post_processor"], new_of)
    config = dict(tokenizer.files.config)
    if isinstance(added := config.get("added_tokens_decoder"), dict):  # transformers', by number
        config["added_tokens_decoder"] = {
            str(new_of[int(old)]): value for old, value in added.items() if int(old) in new_of
        }
    return Tokenizer(checked(json.dumps(parts, ensure_ascii=False), config, None))


def _needed(files: Files, parts: dict[str, Any], characters: bool) -> list[int]:
    model, framing = parts["model"], files.framing
    needed = [*files.specials.values(), framing.opening, *framing.between, framing.closing]
    needed += [piece["id"] for piece in parts["added_tokens"]]
    if model["type"] == "Unigram":
        needed.append(min(range(len(model["vocab"])), key=lambda number: model["vocab"][number][1]))
    spelt_in_bytes = (parts["pre_tokenizer"] or {}).get("type") == "ByteLevel"
    mark = model.get("continuing_subword_prefix") or ""
    for number, piece in enumerate(files.pieces):
        letter = piece.removeprefix(mark).removesuffix(_WORD_END).removeprefix(_BLANK)
        is_part = bool(mark) and piece.startswith(mark)
        # No tokenizer that cuts ideographs apart finds one within a word.
        wanted = (
            spelt_in_bytes
            or letter.isascii()
            or (characters and not (is_part and letter and is_ideograph(letter[0])))
        )
        if (len(letter) <= 1 and wanted) or _BYTE.fullmatch(piece):
            needed.append(number)
    return needed


def _made_of(model: dict[str, Any]) -> dict[int, list[int]]:
    """Of byte pairs: what may be joined to a piece, all ways together."""
    made: defaultdict[int, list[int]] = defaultdict(list)
    for left, right in _pairs(model):
        made[_joined(model, left, right)] += [model["vocab"][left], model["vocab"][right]]
    return made


def _pairs(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges, which files hold as "left right" or as [left, right]."""
    merges = model["merges"] if model["type"] == "BPE" else []
    split = (pair.split(" ") if isinstance(pair, str) else pair for pair in merges)
    return [(left, right) for left, right in split]


def _joined(model: dict[str, Any], left: str, right: str) -> int:
    number: int = model["vocab"][left + right.removeprefix(model["continuing_subword_prefix"] or "")]
    return number


def _with_parts(piece: int, made_of: dict[int, list[int]], kept: set[int]) -> set[int]:
    """The piece and all that it may be made of, without what is kept already."""
    new: set[int] = set()
    waiting = [piece]
    while waiting:
        one = waiting.pop()
        if one not in new and one not in kept:
            new.add(one)
            waiting += made_of.get(one, ())
    return new


def _cut_model(model: dict[str, Any], new_of: dict[int, int]) -> None:
    if model["type"] == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new_of]
        model["unk_id"] = None if model["unk_id"] is None else new_of[model["unk_id"]]
        return
    if model["type"] == "BPE":
        model["merges"] = [
            [left, right]
            for left, right in _pairs(model)
            if {model["vocab"][left], model["vocab"][right], _joined(model, left, right)} <= new_of.keys()
        ]
    model["vocab"] = {piece: new_of[old] for piece, old in model["vocab"].items() if old in new_of}


def _renumber(processor: dict[str, Any], new_of: dict[int, int]) -> None:
    for one in processor.get("processors", ()):
        _renumber(one, new_of)
    for special in processor.get("special_tokens", {}).values():
        special["ids"] = [new_of[old] for old in special["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            name, old = processor[key]
            processor[key] = [name, new_of[old]]
