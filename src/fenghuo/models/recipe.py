"""The key `model` of every recipe that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from fenghuo.config import Recipe


class ModelRecipe(Recipe):
    """A preset with fresh weights, or a folder whose weights to go on from. One word stands for either."""

    exactly_one: ClassVar = (("preset", "folder"),)

    preset: str | None = None
    """Name of a shape, such as nezha-base; weights are drawn from the seed."""
    folder: Path | None = None
    """Model folder or run folder to go on from."""
    values: dict[str, bool | int | float | str | tuple[int | str, ...]] = Field(default_factory=dict)
    """Values of the network that differ from the preset's (layers, width, heads, dropout, …)."""
    tokenizer: Path | None = None
    """Tokenizer folder, for fine-tuning a preset; elsewhere folder, corpus or teacher bring one."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        if isinstance(given, str | Path):
            return {"folder": given} if Path(given).exists() or "/" in str(given) else {"preset": str(given)}
        return given

    @model_validator(mode="after")
    def _one_tokenizer(self) -> Self:
        """The other would be ignored in silence."""
        if self.folder is not None and self.tokenizer is not None:
            raise ValueError("'tokenizer' has no part beside 'folder', which brings its own")
        return self
