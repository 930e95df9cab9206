"""A corpus's slices, as a run's objectives take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fenghuo.corpus.batch import Packing
from fenghuo.corpus.shards import ShardSource
from fenghuo.corpus.slices import Cutting, Split
from fenghuo.objectives.recipe import ObjectiveRecipe
from fenghuo.text.tokenizer import Vocabulary


def slices_of(
    corpus: Path,
    objectives: Sequence[ObjectiveRecipe],
    vocabulary: Vocabulary,
    *,
    max_length: int,
    split: Split = "train",
    packing: Packing = "doc-sentences",
) -> ShardSource:
    """The slices that `cutting_of` describes."""
    cutting = cutting_of(objectives, vocabulary, max_length=max_length, split=split, packing=packing)
    return ShardSource(corpus, max_pieces=cutting.max_pieces, split=split, packing=packing)


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
