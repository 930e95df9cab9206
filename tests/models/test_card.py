"""The model card, which is published with the model."""

from __future__ import annotations

from pathlib import Path

from fenghuo.finetune.recipe import FinetuneRecipe
from fenghuo.models.card import write_card
from fenghuo.models.recipe import ModelRecipe
from fenghuo.tasks.recipe import DataRecipe, TaskRecipe


def test_a_card_tells_the_recipe_without_the_machines_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    recipe = FinetuneRecipe(
        model=ModelRecipe(folder=Path("/home/somebody/secret/runs/pretrained")),
        task=TaskRecipe(kind="classify"),
        data=DataRecipe(train=Path("/home/somebody/customers/reviews/train.tsv"), dev=Path("rows/dev.tsv")),
    )
    write_card(tmp_path, title="Fine-tuned", recipe=recipe, result={"task": "classify"})
    said = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "folder: runs/pretrained\n" in said
    assert "train: reviews/train.tsv\n" in said
    assert "dev: rows/dev.tsv\n" in said
    assert "somebody" not in said
