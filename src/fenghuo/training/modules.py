"""What a recipe asks of a model's modules, without knowing which they are."""

from __future__ import annotations

import shutil

import torch
from torch import nn

from fenghuo.errors import RecipeError


def recompute_layers(model: nn.Module, wanted: bool) -> None:
    """Set `recompute` on every module that has it: it computes its layers again in the backward pass."""
    for module in model.modules():
        if hasattr(module, "recompute"):
            setattr(module, "recompute", wanted)  # noqa: B010  # typed as a submodule otherwise


def compile_layers(model: nn.Module, device: torch.device) -> None:
    """Compile every module whose class says `compiles`, in place: names in the state dict stay as they are.

    Batches are flat and of any size, so shapes are dynamic; what looks at lengths stays outside.

    Raises:
        RecipeError: the model is not on CUDA, or there is no C compiler, which Triton needs.
    """
    if device.type != "cuda":
        raise RecipeError(
            f"train.compile: true works on CUDA only, and this model is on '{device.type}'; allowed there: false"
        )
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        raise RecipeError("train.compile: true needs a C compiler (cc, gcc or clang) on PATH; or give false")
    for module in model.modules():
        if getattr(module, "compiles", False):
            module.compile(dynamic=True)
