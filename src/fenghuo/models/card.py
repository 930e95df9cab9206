"""The model card: README.md of every model folder, filled from what the run knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fenghuo import __version__
from fenghuo.config import Recipe
from fenghuo.rundir import write_atomic


def write_card(folder: Path, *, title: str, recipe: Recipe, result: Mapping[str, Any]) -> None:
    """Write `folder/README.md` beside its config.json.

    Front matter as the Hugging Face Hub reads it, figures, how to use the model, the recipe. A card is published:
    paths keep their last two parts, which name a file or a run but not who made it, and where.
    """
    front = {
        "library_name": "fenghuo",
        "tags": ["fenghuo", str(result.get("task", "encoder"))],
    }
    metric, value = result.get("metric"), result.get("value")
    figures = (
        [f"| {metric} ({result.get('value_of', 'held-out')}) | {value:.4f} |"] if value is not None else []
    )
    figures += [
        f"| {name} | {result[name]:,} |"
        for name in ("parameters", "rows", "steps", "train_s")
        if name in result
    ]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    asked = "task" in config.get("fenghuo", {})
    use = (
        'predict = fenghuo.load_predictor("THIS FOLDER")\nprint(predict(["…"]))'
        if asked
        else 'model = fenghuo.load_model("THIS FOLDER")'
    )
    lines = [
        "---",
        yaml.safe_dump(front, allow_unicode=True, sort_keys=False).strip(),
        "---",
        f"# {title}",
        "",
        f"Made by fenghuo {__version__}. The run folder above it holds environment, seeds and checksums of inputs.",
        "",
        "| figure | value |",
        "| --- | --- |",
        *figures,
        "",
        "## Use",
        "",
        "```python",
        "import fenghuo",
        use,
        "```",
        "",
        "## Recipe",
        "",
        "```yaml",
        yaml.safe_dump(_published(recipe.model_dump()), allow_unicode=True, sort_keys=False).strip(),
        "```",
        "",
        "## Limits",
        "",
        "A figure holds for text like that it was measured on; the run folder names it.",
        "",
    ]
    write_atomic(folder / "README.md", "\n".join(lines))


def _published(value: Any) -> Any:
    """The values of a recipe as YAML has them, with short paths."""
    if isinstance(value, Path):
        return "/".join(value.parts[-2:])
    if isinstance(value, Mapping):
        return {key: _published(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_published(one) for one in value]
    return value
