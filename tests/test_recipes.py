"""Every shipped recipe is built by the verb that its name begins with, and so is the network that it names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.objectives.small import Documents, vocabulary

import fenghuo.net.initial
from fenghuo.cli.calls import load
from fenghuo.cli.verbs import STAGES
from fenghuo.config import read_recipe
from fenghuo.errors import ModelError
from fenghuo.models.recipe import ModelRecipe
from fenghuo.models.start import start_model
from fenghuo.net.config import HeadsConfig
from fenghuo.net.model import Model
from fenghuo.objectives.objective import build_questions

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
PIECES = 21_128
"""Of Google's Chinese vocabulary."""


def read(path: Path) -> Any:
    return read_recipe(load(STAGES[path.stem.split("-")[0]].recipe), path, {})


def model_of(recipe: Any) -> ModelRecipe | None:
    """What a recipe makes a fresh network of, if it does."""
    found = getattr(recipe, "model", None) or getattr(recipe, "student", None)
    return found if isinstance(found, ModelRecipe) and found.folder is None else None


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks have shapes and no memory: the largest ones would take minutes to draw."""

    def own(model: Model, *, std: float, seed: int) -> dict[str, Any]:
        return dict(model.named_parameters())

    monkeypatch.setattr(fenghuo.net.initial, "initial_weights", own)


def network_of(recipe: Any) -> Model:
    model = model_of(recipe)
    assert model is not None
    heads = HeadsConfig()
    if hasattr(recipe, "objectives"):
        heads = build_questions(recipe.objectives, vocabulary(), Documents(9)).heads()
    tokenizer: Any = SimpleNamespace(vocabulary=SimpleNamespace(size=PIECES))
    return start_model(model, heads, tokenizer=tokenizer, seed=0, max_length=recipe.max_length)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_built(path: Path) -> None:
    assert read(path).model_dump()
    assert f"recipes/{path.name} --out" in path.read_text(encoding="utf-8"), "says how it is run"


@pytest.mark.parametrize(
    "path", [path for path in RECIPES if model_of(read(path))], ids=lambda path: path.stem
)
def test_the_network_of_a_shipped_recipe_is_built(no_weights: None, path: Path) -> None:
    recipe = read(path)
    model = network_of(recipe)
    assert model.config.vocab == PIECES
    wanted = model_of(recipe)
    assert wanted is not None
    assert all(getattr(model.config, name) == value for name, value in wanted.values.items())
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("key", "value"),
    [("preset", "nezha-bas"), ("values", {"widht": 96}), ("values", {"heads": 7}), ("values", {"layers": 0})],
)
def test_a_wrong_name_or_value_would_be_noticed(no_weights: None, key: str, value: Any) -> None:
    recipe = read(FOLDER / "pretrain-tiny.yaml")
    wrong = recipe.model_copy(update={"model": recipe.model.model_copy(update={key: value})})
    with pytest.raises(ModelError):
        network_of(wrong)


def test_every_stage_has_a_recipe() -> None:
    assert {path.stem.split("-")[0] for path in RECIPES} == set(STAGES)
