"""What a recipe says of each objective, and which of them can be asked together. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fenghuo.config import Recipe


class ObjectiveRecipe(Recipe):
    """One question asked of raw text."""

    frames: ClassVar[bool] = False
    """It makes pairs of the text, so only one such is asked of an example."""
    draws: ClassVar[bool] = False
    """It takes other examples of the corpus."""
    alone: ClassVar[bool] = False
    """Pieces hear what stands before them only: no other question fits the same example."""
    after: ClassVar[str | None] = None
    """The objective whose choice it reads, and which stands before it in the recipe."""

    name: str
    """Which question."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of this loss."""
    share: float | None = Field(default=None, gt=0)
    """Objectives with a share are alternatives, of which each example is asked one, drawn by their shares; one
    without a share is asked beside each of them, but never beside causal."""


class MlmRecipe(ObjectiveRecipe):
    """Hidden pieces are asked for."""

    name: Literal["mlm"] = "mlm"
    """mlm hides pieces and asks for them back."""
    rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of pieces that are hidden."""
    unit: Literal["word", "piece"] = "word"
    """word hides all pieces of a word together (whole-word masking)."""


AnyObjective = Annotated[MlmRecipe, Field(discriminator="name")]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Objectives that are asked of the same example."""

    share: float
    objectives: tuple[ObjectiveRecipe, ...]


def alternatives(objectives: Sequence[ObjectiveRecipe]) -> list[Alternative]:
    """The sets of objectives that one example may be asked, each in the recipe's order.

    Raises:
        ValueError: objectives that cannot go together.
    """
    shared = [one for one in objectives if one.share is not None]
    beside = [one for one in objectives if one.share is None]
    if not shared:
        found = [Alternative(1.0, tuple(objectives))]
    else:
        found = [
            Alternative(
                main.share or 0.0,
                tuple(one for one in objectives if one is main or (one.share is None and not main.alone)),
            )
            for main in shared
        ]
        if beside and all(main.alone for main in shared):
            raise ValueError(
                f"'{beside[0].name}' is never asked: '{shared[0].name}' goes with no other objective; "
                f"give '{beside[0].name}' a share too"
            )
    for one in found:
        _check(one.objectives)
    pairs = {one.name for one in objectives if one.frames}
    if len(pairs) > 1:
        raise ValueError(f"{' and '.join(sorted(pairs))} in one run would teach one pair head two meanings")
    return found


def _check(together: Sequence[ObjectiveRecipe]) -> None:
    """Raise a ValueError unless all of these can be asked of one example."""
    names = [one.name for one in together]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(
            f"'{twice[0]}' is asked twice of the same example; give each a share to ask now one, now the other"
        )
    for number, one in enumerate(together):
        if one.alone and len(together) > 1:
            other = next(name for name in names if name != one.name)
            raise ValueError(
                f"'{one.name}' and '{other}' cannot be asked of the same example: give each a share"
            )
        if one.after is not None and one.after not in names[:number]:
            raise ValueError(f"'{one.name}' needs '{one.after}' before it, with which it is asked")
