"""What a recipe names, found and looked into before any work: by a run, and by `--dry-run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fenghuo.corpus.clean import Cleaner
from fenghuo.corpus.evaluation import find_evaluation, read_evaluation
from fenghuo.corpus.extend import Taken, find_shards, inputs_of
from fenghuo.corpus.files import Range, TextFile, cut_into_parts, find_files
from fenghuo.corpus.urls import is_url
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.words import load_segmenter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fenghuo.corpus.recipe import CorpusRecipe


@dataclass(frozen=True, slots=True)
class Given:
    """What there is."""

    tokenizer: Tokenizer
    fingerprints: Mapping[str, str]  # of tokenizer and segmenter
    files: Sequence[TextFile]
    parts: Sequence[tuple[Range, ...]]
    taken: Sequence[Taken]  # shards of finished corpora
    inputs: Sequence[tuple[str, Path | str]]  # for the run's record
    evaluation_characters: int  # of all rows that no document may hold a piece of


def look_up(recipe: CorpusRecipe) -> Given:
    """All that the recipe names.

    Raises:
        RecipeError, MissingExtraError: a language nobody knows, or a package that a rule needs.
        ModelError: no tokenizer.
        DataError: missing, empty or binary input, a corpus to extend that does not fit, an unreadable evaluation file.
    """
    tokenizer, segmenter = Tokenizer.load(recipe.tokenizer), load_segmenter(recipe.segmenter)
    Cleaner(recipe.clean)
    fingerprints = {"tokenizer": tokenizer.fingerprint, "segmenter": segmenter.name}
    files = find_files(recipe.input)
    taken = find_shards(recipe.extend, fingerprints)
    against = find_evaluation(recipe.decontaminate.against) if recipe.decontaminate else []
    paths = (*(file.path for file in files), *(path for path, _ in against))
    data: list[tuple[str, Path | str]] = [("data", path if is_url(path) else Path(path)) for path in paths]
    return Given(
        tokenizer=tokenizer,
        fingerprints=fingerprints,
        files=files,
        parts=cut_into_parts(files, recipe.shards.input_mb),
        taken=taken,
        inputs=[*inputs_of(recipe.extend), *data],
        evaluation_characters=sum(
            sum(map(len, row.texts)) for path, one in against for row in read_evaluation(path, one.format)
        ),
    )
