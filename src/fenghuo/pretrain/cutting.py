"""How a corpus is cut for a run's objectives."""

from __future__ import annotations

from collections.abc import Sequence

from fenghuo.corpus.batch import Packing
from fenghuo.corpus.slices import Cutting, Split
from fenghuo.objectives.recipe import ObjectiveRecipe
from fenghuo.text.tokenizer import Vocabulary


def cutting_of(
    objectives: Sequence[ObjectiveRecipe],
    vocabulary: Vocabulary,
    *,
    max_length: int,
    split: Split = "train",
    packing: Packing = "doc-sentences",
) -> Cutting:
    """Slices that fit `max_length` with the special pieces around them: a pair has one more than a text."""
    pair = any(objective.frames for objective in objectives)
    return Cutting(max_length - vocabulary.specials(pair=pair), split, packing)
