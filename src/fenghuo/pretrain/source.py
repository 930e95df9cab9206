"""A corpus's slices, as a run's objectives take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fenghuo.corpus.batch import Packing
from fenghuo.corpus.shards import ShardSource
from fenghuo.corpus.slices import Split
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
    """Slices that fit `max_length` with the special pieces around them: a pair has one more than a text."""
    pair = any(objective.frames for objective in objectives)
    room = max_length - vocabulary.specials(pair=pair)
    return ShardSource(corpus, max_pieces=room, split=split, packing=packing)
