"""The step that takes over shards of finished corpora, for datatrove; one task is one shard."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from datatrove.pipeline.base import PipelineStep

from fenghuo.corpus.clean import SAMPLES, Count
from fenghuo.corpus.extend import take_whole, taken
from fenghuo.corpus.figures import add_lengths
from fenghuo.corpus.format import Documents, check_bytes, read_shard, write_shard
from fenghuo.corpus.steps import COUNTED, count_up, plain_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fenghuo.corpus.texts import Text
    from fenghuo.text.tokenizer import Tokenizer

_SAMPLE_PIECES = 40


class Take(PipelineStep):  # type: ignore[misc]
    """A shard of a finished corpus, less the documents that repeat an earlier one.

    Args:
        shards: the file that `extend.save_taken` wrote.
        repeats: folder of the decisions; None takes all documents.
        folder: where the shard goes.
        tokenizer, fingerprints: those of both corpora.
    """

    name, type = "take over", "fenghuo"

    def __init__(
        self,
        shards: Path,
        repeats: Path | None,
        folder: Path,
        *,
        tokenizer: Path,
        fingerprints: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.shards, self.repeats, self.folder = shards, repeats, folder
        self.tokenizer, self.fingerprints = tokenizer, fingerprints
        self.figures: dict[str, Any] = {}

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Text]:
        one, tokenizer = taken(self.shards)[rank], plain_tokenizer(self.tokenizer)
        target = self.folder / f"taken-{rank:05d}.arrow"
        check_bytes(one.path, one.line)
        documents = read_shard(one.path)
        repeated = np.zeros(len(documents.lengths), np.bool_)
        if self.repeats is not None:
            repeated = np.load(self.repeats / f"taken-{rank:05d}.npy")
        removed = {}
        if not repeated.any():
            lines = [take_whole(one, target)]
        else:
            count = Count(int(repeated.sum()), int(documents.characters[repeated].sum()))
            count.samples = _samples(documents.take(repeated), tokenizer)
            removed["duplicate"] = count.to_json()
            documents = documents.take(~repeated)
            size = tokenizer.vocabulary.size
            kept = [documents] if len(documents.lengths) else []
            lines = [
                write_shard(target, [part], vocabulary_size=size, fingerprints=self.fingerprints)
                for part in kept
            ]
        figures = count_up(dict.fromkeys(COUNTED, 0), documents, tokenizer.vocabulary.unk)
        lengths = dict[str, list[int]]()
        if len(documents.lengths):
            add_lengths(lengths, documents)
        self.figures = {
            **figures,
            "lengths": lengths,
            "removed": removed,
            "shards": [asdict(line) for line in lines],
        }
        return iter(())


def _samples(documents: Documents, tokenizer: Tokenizer) -> list[str]:
    """The beginnings of some, from their pieces: their text is not in the corpus."""
    names = tokenizer.pieces()
    ends = np.cumsum(documents.lengths)
    begins = ends - documents.lengths
    shown = zip(begins.tolist(), np.minimum(ends, begins + _SAMPLE_PIECES).tolist(), strict=True)
    return [
        " ".join(names[piece] for piece in documents.pieces[begin:end].tolist()).replace(" ##", "")
        for (begin, end), _ in zip(shown, range(SAMPLES), strict=False)
    ]
