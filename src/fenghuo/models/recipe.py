"""The key `model` of every recipe that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from fenghuo.config import Recipe


class ModelRecipe(Recipe):
    """A preset with fresh weights, or a folder whose weights to go on from. One word stands for either."""

    exactly_one: ClassVar = (("preset", "folder"),)

    preset: str | None = None
    """Name of a shape, such as nezha-base; weights are drawn from the seed."""
    folder: Path | None = None
    """Model folder or run folder to go on from."""
    values: dict[str, int | float | str] = Field(default_factory=dict)
    """Values of the network that differ from the preset's (layers, width, heads, dropout, …)."""
    tokenizer: Path | None = None
    """Tokenizer folder, for a preset outside pretraining; a folder brings its own."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        if isinstance(given, str | Path):
            return {"folder": given} if Path(given).exists() or "/" in str(given) else {"preset": str(given)}
        return given
