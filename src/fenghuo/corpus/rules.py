"""More steps of the corpus pipeline: the keys of near duplicates, and decontamination."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from datatrove.pipeline.base import PipelineStep

from fenghuo.corpus.clean import Count
from fenghuo.corpus.contamination import Index, Rows, read_index
from fenghuo.corpus.near import band_keys, bands_of, save_keys
from fenghuo.corpus.ngrams import HASHED_TOGETHER
from fenghuo.corpus.recipe import DecontaminateRecipe
from fenghuo.corpus.texts import length
from fenghuo.text.groups import in_groups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fenghuo.corpus.recipe import NearRecipe
    from fenghuo.corpus.texts import Text


class SignNear(PipelineStep):  # type: ignore[misc]
    """What will decide which of this task's documents are nearly the same, into a file."""

    name, type = "sign near", "fenghuo"

    def __init__(self, folder: Path, recipe: NearRecipe) -> None:
        super().__init__()
        self.folder, self.recipe = folder, recipe

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Text]:
        how = self.recipe.similarity, self.recipe.permutations
        keys = []
        for group in in_groups(data, length, HASHED_TOGETHER):
            keys.append(band_keys([document.text for document in group], *how))
            yield from group
        save_keys(self.folder / f"{rank:05d}.npy", keys, bands_of(*how)[0])


class Decontaminate(PipelineStep):  # type: ignore[misc]
    """Documents that hold no piece of an evaluation row."""

    name, type = "decontaminate", "fenghuo"

    def __init__(self, recipe: DecontaminateRecipe, *, simplified: bool) -> None:
        super().__init__()
        self.recipe, self.simplified = recipe, simplified
        self.figures: dict[str, Any] = {}

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Text]:
        index, rows = _index(self.recipe.model_dump_json(), self.simplified)
        count = Count()
        documents_of_row = np.zeros(len(rows.of), np.int64)
        documents_of_file = np.zeros(len(rows.files), np.int64)
        for group in in_groups(data, length, HASHED_TOGETHER):
            documents, found = index.search([document.text for document in group])
            np.add.at(documents_of_row, found, 1)
            pairs = np.unique(np.stack([documents, rows.of[found].astype(np.int64)]), axis=1)
            np.add.at(documents_of_file, pairs[1], 1)
            gone = set(documents.tolist())
            for number, document in enumerate(group):
                if number in gone:
                    count.add(document.text, len(document.text))
                else:
                    yield document
        hit = np.flatnonzero(documents_of_row)
        self.figures = {
            "removed": {"evaluation_text": count.to_json()} if count.count else {},
            "rows": np.stack([hit, documents_of_row[hit]], axis=1).tolist(),
            "files": documents_of_file.tolist(),
        }


@cache  # once a process, not once a task
def _index(recipe: str, simplified: bool) -> tuple[Index, Rows]:
    return read_index(DecontaminateRecipe.model_validate_json(recipe), simplified=simplified)
