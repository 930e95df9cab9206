"""The tokenizer files of a model folder: reading, checking, writing (Hugging Face's names and layout)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from fenghuo.errors import ModelError
from fenghuo.rundir import write_atomic
from fenghuo.text import byte_level
from fenghuo.text.framing import Framing, add_framing, framing_of

# What each special piece is called where no file says so: BERT's name, then RoBERTa's and XLM's.
SPECIALS = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>", "<special1>"),
}
_READ = ("tokenizer.json", "vocab.txt", "vocab.json")
# Beside them, vocab.txt holds pieces that only the program of these files finds in a text.
SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "spm_cased_simp_sampled.model")


@dataclass(frozen=True)
class Files:
    """What the files say, checked."""

    tokenizer_json: str  # as the `tokenizers` library writes it
    config: dict[str, Any]  # tokenizer_config.json
    pieces: tuple[str, ...]  # by id
    specials: dict[str, int]  # "pad_token", "unk_token", … → id
    framing: Framing


def read_files(path: Path) -> Files:
    """A model folder, a `tokenizer.json`, a `vocab.txt`, or a `vocab.json` with merges.txt → its checked contents.

    Raises ModelError.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = next((folder / name for name in _READ if (folder / name).is_file()), path)
    if path.name != "tokenizer.json" and (
        spm := next((name for name in SENTENCEPIECE if (folder / name).is_file()), None)
    ):
        raise ModelError(
            f"{folder / spm}: not read here; a tokenizer.json, which transformers makes of it, is"
        )
    if not path.is_file():
        absent = "holds neither tokenizer.json nor vocab.txt, nor vocab.json with merges.txt"
        raise ModelError(f"{path}: {absent if path.is_dir() else 'no such file'}")
    config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    if path.name == "vocab.json":
        return _byte_level_files(path, config)
    if path.suffix == ".json":
        return checked(_read_text(path), config, path)
    return bert_files(_read_vocabulary(path), config, where=path)


def bert_files(pieces: list[str], config: dict[str, Any], *, where: Path | None = None) -> Files:
    """A BERT WordPiece tokenizer over `pieces`; `config` as in `tokenizer_config.json`."""
    lowercase = bool(config.get("do_lower_case", True))
    ids = {piece: i for i, piece in enumerate(pieces)}
    names = {key: _special(key, config, ids, where) for key in SPECIALS}
    backend: Any = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=names["unk_token"]))
    backend.add_special_tokens(sorted(names.values(), key=ids.__getitem__))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase,
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    cls, sep = names["cls_token"], names["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    bert = {
        "tokenizer_class": "BertTokenizerFast",
        "do_lower_case": lowercase,
        "tokenize_chinese_chars": True,
    }
    return checked(backend.to_str(), bert | {"strip_accents": None} | config, where)


def _byte_level_files(path: Path, config: dict[str, Any]) -> Files:
    merges = path.with_name("merges.txt")
    if not merges.is_file():
        raise ModelError(f"{path}: no merges.txt beside it")
    ids = _read_json(path)
    if wrong := [piece for piece, number in ids.items() if type(number) is not int]:
        raise ModelError(f"{path}: the piece {wrong[0]!r} has no number")
    return byte_level_files(ids, _read_text(merges).replace("\r\n", "\n").split("\n"), config, where=path)


def byte_level_files(
    ids: dict[str, int], merges: list[str], config: dict[str, Any], *, where: Path | None = None
) -> Files:
    """RoBERTa's tokenizer over these pieces; `merges` are lines of merges.txt."""
    names = {key: _special(key, config, ids, where) for key in SPECIALS}
    try:
        made = byte_level.byte_level(ids, merges, names, config)
    except ValueError as problem:
        raise ModelError(f"{where}: {problem}") from problem
    return checked(made, {**byte_level.CONFIG, **config}, where)


def write_files(files: Files, folder: Path) -> None:
    """Write three files and, for old readers, the vocabulary alone: vocab.txt of WordPiece, vocab.json and merges.txt
    of byte pairs over bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {key: files.pieces[i] for key, i in files.specials.items()}
    parts = json.loads(files.tokenizer_json)
    wordpiece = parts["model"]["type"] == "WordPiece"
    kind = "BertTokenizerFast" if wordpiece else "PreTrainedTokenizerFast"
    config = {"tokenizer_class": kind} | files.config | names
    if config["tokenizer_class"] == "XLMTokenizer":  # it reads no tokenizer.json
        config["tokenizer_class"] = kind
    if wordpiece and (parts["normalizer"] or {}).get("type") == "BertNormalizer":
        # tokenizer.json decides; these say the same to readers that know only the configuration
        config |= {
            "do_lower_case": parts["normalizer"]["lowercase"],
            "strip_accents": parts["normalizer"]["strip_accents"],
            "tokenize_chinese_chars": parts["normalizer"]["handle_chinese_chars"],
        }
    write_atomic(folder / "tokenizer.json", files.tokenizer_json)
    write_atomic(folder / "tokenizer_config.json", _pretty(config))
    write_atomic(folder / "special_tokens_map.json", _pretty(names))
    if wordpiece:
        write_atomic(folder / "vocab.txt", "".join(piece + "\n" for piece in files.pieces))
    for name, text in byte_level.vocabulary_files(parts).items():
        write_atomic(folder / name, text)


def checked(tokenizer_json: str, config: dict[str, Any], where: Path | None) -> Files:
    """A tokenizer of the `tokenizers` library, with its special pieces found and its texts framed.

    Raises ModelError.
    """
    try:
        backend: Any = tokenizers.Tokenizer.from_str(tokenizer_json)
    except Exception as problem:  # the library raises plain `Exception`
        raise ModelError(f"{where}: not a tokenizer of the `tokenizers` library: {problem}") from problem
    ids: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    pieces = sorted(ids, key=ids.__getitem__)
    if [ids[piece] for piece in pieces] != list(range(len(pieces))):
        raise ModelError(
            f"{where}: the ids of its {len(pieces)} pieces are not 0 to {len(pieces) - 1}, each once"
        )
    specials = {key: ids[_special(key, config, ids, where)] for key in SPECIALS}
    try:
        framing = framing_of(backend)
        if framing is None:
            cls, sep = specials["cls_token"], specials["sep_token"]
            if pieces[specials["mask_token"]] == "<special1>" and "cls_token" not in config:
                cls = sep  # XLM's
            add_framing(backend, (pieces[cls], cls), (pieces[sep], sep), double=pieces[cls] == "<s>")
            framing = framing_of(backend)
            assert framing is not None
        if strange := [i for i in (framing.opening, *framing.between, framing.closing) if i >= len(pieces)]:
            raise ValueError(f"its post-processor puts the piece {strange[0]}, and there are {len(pieces)}")
    except ValueError as problem:
        raise ModelError(f"{where}: {problem}") from problem
    return Files(
        tokenizer_json=backend.to_str(),
        config=config,
        pieces=tuple(pieces),
        specials={**specials, "cls_token": framing.opening, "sep_token": framing.closing},
        framing=framing,
    )


def _special(key: str, config: dict[str, Any], ids: dict[str, int], where: Path | None) -> str:
    given = config.get(key)
    if isinstance(given, dict):  # Hugging Face's long form
        given = given.get("content")
    wanted = (given,) if isinstance(given, str) else SPECIALS[key]
    for name in wanted:
        if name in ids:
            return name
    raise ModelError(f"{where}: the {key.replace('_', ' ')} {' or '.join(wanted)} is not in the vocabulary")


def _read_vocabulary(path: Path) -> list[str]:
    pieces = [line.removesuffix("\r") for line in _read_text(path).removesuffix("\n").split("\n")]
    numbered = [piece.rpartition("\t") for piece in pieces]
    if all(
        tail == str(number) for number, (_, _, tail) in enumerate(numbered)
    ):  # ERNIE's, with the ids beside
        pieces = [piece for piece, _, _ in numbered]
    first: dict[str, int] = {}
    for number, piece in enumerate(pieces, start=1):
        if first.setdefault(piece, number) != number:
            raise ModelError(f"{path}: line {number} repeats the piece {piece!r} of line {first[piece]}")
    return pieces


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ModelError(f"{path}: not UTF-8 text (byte {problem.start})") from problem
    except OSError as problem:
        raise ModelError(f"{path}: {problem.strerror or problem}") from problem


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(_read_text(path))
    except json.JSONDecodeError as problem:
        raise ModelError(f"{path}: not JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a JSON object")
    return found


def _pretty(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
