"""TEMPORARY, replaced when the readers are merged."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from fenghuo.errors import ModelError
from fenghuo.models.released.stored import Stored


def open_stored(path: Path) -> Stored:
    if path.is_dir():
        path = (
            path / "model.safetensors"
            if (path / "model.safetensors").is_file()
            else path / "pytorch_model.bin"
        )
    try:
        t = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as problem:
        raise ModelError(f"{path}: damaged, or not a safetensors file ({problem})") from problem
    return Stored(
        path=path, format="safetensors", shapes={k: tuple(v.shape) for k, v in t.items()}, read=t.__getitem__
    )


def weights_path(folder: Path) -> Path:
    return open_stored(folder).path
