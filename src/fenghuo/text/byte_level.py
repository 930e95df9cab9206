"""RoBERTa's vocabulary files: vocab.json (piece → id) and merges.txt, byte pairs over bytes written as letters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

CONFIG: Mapping[str, Any] = {
    "tokenizer_class": "RobertaTokenizerFast",
    "add_prefix_space": False,
    "trim_offsets": True,
}
"""What tokenizer_config.json says where there is none."""
_WORD_END = "</w>"


def byte_level(
    ids: Mapping[str, int], merges: Sequence[str], specials: Mapping[str, str], config: Mapping[str, Any]
) -> str:
    """The files as tokenizer.json, equal to what transformers makes of them.

    Args:
        ids: of vocab.json.
        merges: lines of merges.txt.
        specials: "mask_token" and so on, and their pieces.
        config: of tokenizer_config.json.

    Raises:
        ValueError: no byte pairs over bytes, or pairs whose pieces are not there.
    """
    if any(piece.endswith(_WORD_END) for piece in ids):
        raise ValueError(
            f"its pieces end in {_WORD_END}: they are XLM's, whose text Moses cuts first, which nothing here "
            "does; a tokenizer.json that stands in for it is read"
        )
    if missing := [piece for piece in pre_tokenizers.ByteLevel.alphabet() if piece not in ids]:
        raise ValueError(
            f"not byte pairs over bytes: {len(missing)} of the 256 bytes have no piece ({missing[0]!r})"
        )
    lines = [line for line in merges if line.strip() and not line.startswith("#version")]
    if wrong := [line for line in lines if line.count(" ") != 1]:
        raise ValueError(f"merges.txt: not a pair of pieces: {wrong[0]!r}")
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    try:
        model = models.BPE(vocab=dict(ids), merges=pairs, continuing_subword_prefix="", end_of_word_suffix="")
    except Exception as problem:  # the library raises plain `Exception`
        raise ValueError(f"merges.txt: {problem}") from problem
    settings = {**CONFIG, **config}
    prefix, trim = bool(settings["add_prefix_space"]), bool(settings["trim_offsets"])
    cls, sep = specials["cls_token"], specials["sep_token"]
    backend: Any = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(
        (sep, ids[sep]), (cls, ids[cls]), trim_offsets=trim, add_prefix_space=prefix
    )
    added = {name: _added(key, name, config) for key, name in specials.items()}
    backend.add_special_tokens([added[name] for name in sorted(added, key=ids.__getitem__)])
    found: str = backend.to_str()
    return found


def vocabulary_files(parts: Mapping[str, Any]) -> dict[str, str]:
    """vocab.json and merges.txt of a tokenizer.json whose pieces are byte pairs over bytes; else none."""
    model, before = parts["model"], parts["pre_tokenizer"] or {}
    if model["type"] != "BPE" or before.get("type") != "ByteLevel":
        return {}
    ids = dict(model["vocab"]) | {piece["content"]: piece["id"] for piece in parts["added_tokens"]}
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    table = dict(sorted(ids.items(), key=lambda item: item[1]))
    return {
        "vocab.json": json.dumps(table, ensure_ascii=False) + "\n",
        "merges.txt": "".join(line + "\n" for line in ("#version: 0.2", *pairs)),
    }


def _added(key: str, name: str, config: Mapping[str, Any]) -> Any:
    """A special piece with its rules; the blank before RoBERTa's <mask> is part of it, if nothing else is said."""
    given = config.get(key)
    rules = given if isinstance(given, dict) else {"lstrip": key == "mask_token"}
    known = {rule: bool(rules[rule]) for rule in ("lstrip", "rstrip", "single_word") if rule in rules}
    return tokenizers.AddedToken(name, special=True, normalized=False, **known)
