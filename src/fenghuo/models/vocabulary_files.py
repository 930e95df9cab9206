"""The tokenizer beside released weights: found, read where it can be, and taken along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fenghuo.errors import ModelError
from fenghuo.rundir import write_atomic
from fenghuo.text.folder import SENTENCEPIECE, bert_files
from fenghuo.text.tokenizer import Tokenizer

_READ = ("tokenizer.json", "vocab.txt", "vocab.json", *SENTENCEPIECE)
_COPIED = (
    *SENTENCEPIECE,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "vocab.bin",
    "dict.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_XLM_SPECIALS = 14
"""<s>, </s>, <pad>, <unk> and ten more."""


@dataclass(frozen=True, kw_only=True)
class VocabularyFiles:
    """What there is to cut text with."""

    tokenizer: Tokenizer | None = None
    """Where one could be read."""
    copied: tuple[Path, ...] = ()
    """Files for transformers' own tokenizers, taken along as they are."""
    words: tuple[str, ...] = ()
    """By id, where the weights' file itself holds them (XLM)."""
    problem: str = ""
    """Why a file that is there was not read."""

    @property
    def size(self) -> int | None:
        """Pieces, where they are known."""
        if self.tokenizer is not None:
            return self.tokenizer.vocabulary.size
        return len(self.words) or None

    def describe(self, rows: int) -> str:
        """What the vocabulary is, against the rows of the word table."""
        if self.size is None:
            names = ", ".join(path.name for path in self.copied)
            if self.problem:
                taken = f"; {names} taken along" if names else ""
                return f"WARNING: none that can be read ({self.problem}){taken}; the model cannot read text"
            if names:
                return f"{names}: taken along, not read here"
            return "WARNING: none found; the model cannot read text"
        if self.words and not self.copied:
            return f"WARNING: {self.size:,} pieces, but no merges.txt (BPE codes) beside them: AutoTokenizer needs both"
        if self.size == rows:
            return f"{self.size:,} pieces, a row each"
        if self.size < rows:
            return (
                f"{self.size:,} pieces for {rows:,} rows: the last {rows - self.size:,} rows are never read"
            )
        return f"WARNING: {self.size:,} pieces for {rows:,} rows: {self.size - rows:,} pieces have no vector"

    def save(self, folder: Path) -> None:
        """Write what there is, as `AutoTokenizer` reads it."""
        for path in self.copied:
            shutil.copyfile(path, folder / path.name)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        elif self.words:
            table = {_as_transformers(word, number): number for number, word in enumerate(self.words)}
            write_atomic(folder / "vocab.json", json.dumps(table, ensure_ascii=False) + "\n")


def find_vocabulary(source: Path, settings: Mapping[str, Any], values: Mapping[str, Any]) -> VocabularyFiles:
    """The vocabulary in a folder, or beside a file of weights, or in that file.

    A vocab.txt with no word about case is cased where it holds capital letters.

    Raises:
        ModelError: what is there is damaged.
    """
    folder = source if source.is_dir() else source.parent
    words = settings.get("dico_id2word")
    if isinstance(words, Mapping) and words:
        listed = [words.get(number) for number in range(len(words))]
        if any(not isinstance(word, str) for word in listed):
            raise ModelError(f"{source}: dico_id2word is not a word for each id from 0 on")
        return VocabularyFiles(words=tuple(str(word) for word in listed), copied=_codes(folder))
    copied = tuple(folder / name for name in _COPIED if (folder / name).is_file())
    if not any((folder / name).is_file() for name in _READ):
        return VocabularyFiles(copied=copied)
    try:
        tokenizer = Tokenizer.load(folder)
    except ModelError as problem:
        return VocabularyFiles(copied=copied, problem=str(problem))
    if not _says_case(folder, values) and any(p.isalpha() and p != p.lower() for p in tokenizer.pieces()):
        tokenizer = Tokenizer(bert_files(tokenizer.pieces(), {"do_lower_case": False}, where=folder))
    # What transformers' slow classes read goes along with the tokenizer.json that says the same.
    return VocabularyFiles(tokenizer=tokenizer, copied=tuple(x for x in copied if x.name in SENTENCEPIECE))


def _says_case(folder: Path, values: Mapping[str, Any]) -> bool:
    from_pieces = (folder / "vocab.txt").is_file() and not (folder / "tokenizer.json").is_file()
    if not from_pieces or "do_lower_case" in values:
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and "do_lower_case" in path.read_text(encoding="utf-8", errors="replace")


def _as_transformers(word: str, number: int) -> str:
    """A word of Facebook's file, which marks pieces that go on with @@, as XLMTokenizer wants it, which marks those
    that end a word with </w>. (transformers' convert_xlm_original_pytorch_checkpoint_to_pytorch.py.)"""
    if number < _XLM_SPECIALS:
        return word
    return word.replace("@@", "") if "@@" in word else f"{word}</w>"


def _codes(folder: Path) -> tuple[Path, ...]:
    path = folder / "merges.txt"
    return (path,) if path.is_file() else ()
