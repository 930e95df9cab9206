"""What recipes say of examples and batches."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from fenghuo.config import Recipe

Packing = Literal["doc-sentences", "full-sentences"]
"""Slices of one document, or such as go on into the next (see `corpus.slices.cut`)."""


class BatchRecipe(Recipe):
    """How much goes into one optimizer step."""

    exactly_one: ClassVar = (("pieces", "rows"),)

    pieces: int | None = Field(default=None, gt=0)
    """Pieces in a global batch, on average; or give `rows`."""
    rows: int | None = Field(default=None, gt=0)
    """Examples in a global batch; or give `pieces`."""
    micro_pieces: int | None = Field(default=None, gt=0)
    """Largest number of pieces that go through the model at once; absent: the whole batch."""
    window: int | None = Field(default=None, gt=0)
    """Visits sorted by length together: larger computes less, smaller mixes better; absent: at most 50 batches."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches ahead, worth it beside a GPU; the batches are the same with any number."""
