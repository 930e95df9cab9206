"""What a recipe asks of a model's modules."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from fenghuo.errors import RecipeError
from fenghuo.training.modules import compile_layers, recompute_layers


class Layer(nn.Linear):
    compiles = True


class Stack(nn.Module):
    recompute = False

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(3, 3), nn.LayerNorm(3)])


def test_layers_are_compiled_in_place_under_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(Layer, "compile", lambda self, **values: compiled.append((self, values)))
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    model = Stack()
    names = list(model.state_dict())
    compile_layers(model, torch.device("cuda"))
    assert compiled == [(model.layers[0], {"dynamic": True})]
    assert list(model.state_dict()) == names


def test_without_cuda_or_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="CUDA only"):
        compile_layers(Stack(), torch.device("cpu"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RecipeError, match="needs a C compiler"):
        compile_layers(Stack(), torch.device("cuda"))


def test_whatever_can_recompute_is_told_to() -> None:
    model = nn.ModuleDict({"student": Stack(), "projections": nn.Linear(2, 2)})
    recompute_layers(model, True)
    assert model["student"].recompute
    assert not Stack.recompute
