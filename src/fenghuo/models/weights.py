"""Weight files → named tensors, and named tensors → our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as read_safetensors
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.family import Family

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
_OLD_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_TIED = {
    "cls.predictions.decoder.weight": "encoder.embed.tables.words.weight",
    "cls.predictions.decoder.bias": "mlm.bias",
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors under our names, and what else was in the file, under its own."""

    path: Path
    tensors: dict[str, Tensor]
    dropped: tuple[str, ...]
    """Holds no weight: stored tables of a formula, tied copies."""
    unexpected: tuple[str, ...]
    """No rule of the family names it: heads that are not supported, most often."""


def weights_path(folder: Path) -> Path:
    """The file that holds the folder's weights.

    Raises:
        ModelError: there is none, or more than one.
    """
    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            return folder / name
    for index in (f"{SAFETENSORS}.index.json", f"{PICKLE}.index.json"):
        if (folder / index).is_file():
            raise ModelError(f"{folder / index}: weights in several files are not supported")
    raise ModelError(f"{folder}: holds neither {SAFETENSORS} nor {PICKLE}")


def read_tensors(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The folder's weight file and its tensors, under the names in the file.

    Raises:
        ModelError: no such file, a damaged one, or a pickle that would run code.
    """
    path = weights_path(folder)
    if path.name == PICKLE:
        return path, _read_pickle(path)
    try:
        return path, read_safetensors(path)
    except (SafetensorError, OSError, ValueError) as problem:
        raise ModelError(f"{path}: damaged, or not a safetensors file ({problem})") from problem


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # pickles fail in many ways; each means that the file cannot be trusted
        raise ModelError(f"{path}: {_refusal(str(problem))}") from problem
    if not isinstance(loaded, Mapping) or not all(isinstance(x, Tensor) for x in loaded.values()):
        raise ModelError(f"{path}: not a table of named tensors")
    return dict(loaded)


def _refusal(told: str) -> str:
    """Why torch did not read a pickle, without its advice, which is to run the code in it."""
    called = re.search(r"GLOBAL (\S+)", told)
    if called is None:
        return (
            "damaged, or a pickle that is not safe to read; nothing in it was executed. "
            f"Needed: {SAFETENSORS}, or a table of tensors that torch saved"
        )
    return (
        f"a pickle that is not safe to read: it calls {called[1]}, which weights have no need of; nothing in it "
        f"was executed. Take the model as {SAFETENSORS}, or have it converted where its source is trusted"
    )


def read_weights(folder: Path, family: Family) -> Weights:
    """The folder's weights under our names.

    Raises:
        ModelError: as `read_tensors`; two names for one tensor; a tied copy that differs from its original.
    """
    path, stored = read_tensors(folder)
    names = _standard_names(list(stored), family)
    tensors: dict[str, Tensor] = {}
    dropped, unexpected, tied = [], [], {}
    for name, standard in names.items():
        ours = family.ours(standard)
        if any(re.fullmatch(pattern, standard) for pattern in family.dropped):
            dropped.append(name)
        elif standard in _TIED:
            tied[name] = _TIED[standard]
        elif ours is None:
            unexpected.append(name)
        elif ours in tensors:
            raise ModelError(f"{path}: two tensors for {standard}")
        else:
            tensors[ours] = stored[name]
    for name, ours in tied.items():
        if ours not in tensors:
            tensors[ours] = stored[name]
        elif not torch.equal(stored[name], tensors[ours]):
            raise ModelError(
                f"{path}: {name} differs from the table it is tied to; untied heads are unsupported"
            )
        else:
            dropped.append(name)
    return Weights(path=path, tensors=tensors, dropped=tuple(dropped), unexpected=tuple(unexpected))


def _standard_names(stored: list[str], family: Family) -> dict[str, str]:
    """Name in the file → name as the family's rules have it: old norm names, other or missing prefixes."""
    prefixes = {name.split(".", 1)[0] for name in stored}
    bare = not prefixes & {family.prefix, *family.prefixes_read}
    out = {}
    for name in stored:
        standard = name
        for old, new in _OLD_NORMS.items():
            standard = standard.replace(old, new)
        head, _, rest = standard.partition(".")
        if head in family.prefixes_read:
            standard = f"{family.prefix}.{rest}"
        elif bare and head in ("embeddings", "encoder", "pooler"):  # an encoder saved without heads
            standard = f"{family.prefix}.{standard}"
        out[name] = standard
    return out
