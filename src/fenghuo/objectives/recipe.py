"""What a recipe says of each objective, and which of them can be asked together. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fenghuo.config import Recipe

Unit = Literal["piece", "word", "ngram", "span"]
Favor = Literal["shorter", "longer"]
RunsOf = Literal["word", "piece"]
Decide = Literal["unit", "word", "piece"]


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
    unit: Unit = "word"
    """What is hidden together: piece, a single piece; word, all pieces of a word (whole-word masking); ngram and
    span, some words in a row."""
    longest: int | None = Field(default=None, ge=1)
    """Most words of an ngram (absent: 3) or a span (absent: 10)."""
    favor: Favor | None = None
    """Of ngram: shorter hides n words in a row with a share of 1/n to that of one word (absent: so); longer turns
    the shares round, and hides the longest most often."""
    geometric_p: float | None = Field(default=None, gt=0, lt=1)
    """Of span: the probability that it ends after a word (absent: 0.2, a mean of 3.8 words with at most 10)."""
    runs_of: RunsOf | None = None
    """What an ngram or a span counts: word (absent: so), or piece, in Chinese a character."""
    decide: Decide = "unit"
    """What is shown as [MASK], as a random piece or as it stood together: all of a unit, each word, or each piece."""
    mask_share: float = Field(default=0.8, ge=0, le=1)
    """Share of the hidden that is shown as [MASK]."""
    random_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the hidden that is shown as random pieces; the rest is shown as it stood."""

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> Self:
        units = {"longest": ("ngram", "span"), "favor": ("ngram",), "geometric_p": ("span",)}
        for key, those in {**units, "runs_of": ("ngram", "span")}.items():
            if getattr(self, key) is not None and self.unit not in those:
                raise ValueError(
                    f"'{key}' says nothing of unit '{self.unit}': leave it out, or set unit to {' or '.join(those)}"
                )
        if self.mask_share + self.random_share > 1:
            raise ValueError(
                f"'mask_share' {self.mask_share} and 'random_share' {self.random_share} are more than all: their sum "
                "must be at most 1"
            )
        return self


class SpanBoundaryRecipe(ObjectiveRecipe):
    """Hidden pieces are asked of those beside their span."""

    after: ClassVar[str | None] = "mlm"

    name: Literal["span_boundary"] = "span_boundary"
    """span_boundary asks for the pieces that mlm hides, told from the two pieces beside each run of them."""


class NspRecipe(ObjectiveRecipe):
    """Pairs of texts, of which the second follows the first or is of another document (BERT)."""

    frames: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    name: Literal["nsp"] = "nsp"
    """nsp asks whether the second text follows the first, or is of another document."""


class SopRecipe(ObjectiveRecipe):
    """Two parts of a text, in the right order or changed over (ALBERT)."""

    frames: ClassVar[bool] = True

    name: Literal["sop"] = "sop"
    """sop asks whether two parts of a text stand in the right order."""


class CausalRecipe(ObjectiveRecipe):
    """Each piece is asked for by those before it."""

    alone: ClassVar[bool] = True

    name: Literal["causal"] = "causal"
    """causal asks at each place for the next piece, from those before it."""


AnyObjective = Annotated[
    MlmRecipe | SpanBoundaryRecipe | NspRecipe | SopRecipe | CausalRecipe, Field(discriminator="name")
]


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
