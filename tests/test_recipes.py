"""Every shipped recipe is built by the verb that its name begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from fenghuo.cli.calls import load
from fenghuo.cli.verbs import STAGES
from fenghuo.config import read_recipe

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_built(path: Path) -> None:
    stage = STAGES[path.stem.split("-")[0]]
    recipe = read_recipe(load(stage.recipe), path, {})
    assert recipe.model_dump()
    assert f"recipes/{path.name} --out" in path.read_text(encoding="utf-8"), "says how it is run"


def test_every_stage_has_a_recipe() -> None:
    assert {path.stem.split("-")[0] for path in RECIPES} == set(STAGES)
