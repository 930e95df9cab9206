"""The key `batch` of every recipe that trains."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from fenghuo.config import Recipe


class BatchRecipe(Recipe):
    """How much goes into one optimizer step."""

    pieces: int | None = Field(default=None, gt=0)
    """Pieces in a global batch, on average; or give `rows`."""
    rows: int | None = Field(default=None, gt=0)
    """Examples in a global batch; or give `pieces`."""
    micro_pieces: int | None = Field(default=None, gt=0)
    """Largest number of pieces that go through the model at once; absent: the whole batch."""
    window: int = Field(default=4096, gt=0)
    """Visits that are sorted by length together: larger wastes less on unequal lengths, smaller mixes better."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.pieces is None) == (self.rows is None):
            raise ValueError("give exactly one of 'pieces' and 'rows'")
        return self
