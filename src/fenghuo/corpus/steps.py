"""The steps of the corpus pipeline, for datatrove; one task is one part of the input.

A step's `figures` are what it counted in its task, for the report of that task.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from fenghuo.corpus.clean import Cleaner, Count, signature
from fenghuo.corpus.duplicates import save_signatures
from fenghuo.corpus.figures import add_lengths
from fenghuo.corpus.format import Documents, ShardLine, smallest_kind, write_shard
from fenghuo.corpus.near import NEAR
from fenghuo.corpus.read import BadLine, read_range
from fenghuo.corpus.sentences import sentence_starts
from fenghuo.errors import DamagedError
from fenghuo.rundir import write_json
from fenghuo.text.tokenizer import Pieces, Tokenizer
from fenghuo.text.words import Segmenter, load_segmenter, spans_of, word_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fenghuo.corpus.files import Range
    from fenghuo.corpus.recipe import CleanRecipe

SHARD_PIECES = 16_000_000  # about 36 MB; a shard is put together in memory
_HEAD = 160  # characters of a document that are shown
_TOGETHER = 1 << 15  # characters that are cut into pieces and words at once: numpy costs something a call


class Read(PipelineStep):  # type: ignore[misc]
    """Documents of this task's part."""

    name, type = "read text", "fenghuo"

    def __init__(self, parts: Sequence[tuple[Range, ...]]) -> None:
        super().__init__()
        self.parts = parts
        self.figures: dict[str, Any] = {}

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        bad: list[tuple[int, BadLine]] = []
        documents = characters = 0
        for number, part in enumerate(self.parts[rank]):

            def set_aside(line: BadLine, number: int = number) -> None:
                bad.append((number, line))

            for found in read_range(part, set_aside):
                documents += 1
                characters += len(found.text)
                place = {"source": found.source, "range": number, "line": found.line}
                yield Document(found.text, id="", metadata=place)
        lines = [{"range": number, **asdict(line)} for number, line in bad]
        self.figures = {"documents": documents, "characters": characters, "bad_lines": lines}


class Clean(PipelineStep):  # type: ignore[misc]
    """Documents mended, some left out."""

    name, type = "clean", "fenghuo"

    def __init__(self, recipe: CleanRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.figures: dict[str, Any] = {}

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        clean = Cleaner(self.recipe)
        for document in data:
            text = clean(document.text)
            if text is not None:
                document.text = text
                yield document
        self.figures = {
            "mended": {rule: count.to_json() for rule, count in clean.mended.items()},
            "removed": {rule: count.to_json() for rule, count in clean.left_out.items()},
        }


class Sign(PipelineStep):  # type: ignore[misc]
    """The signatures of this task's documents, into a file."""

    name, type = "sign", "fenghuo"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        signatures = []
        for document in data:
            signatures.append(signature(document.text))
            yield document
        save_signatures(self.folder / f"{rank:05d}.npy", signatures)


class Keep(PipelineStep):  # type: ignore[misc]
    """Documents that repeat no earlier one, as decided over all parts.

    Args:
        folder: of the decisions.
        shown: file with (part, document) of those whose beginnings the report will show; may be absent.
    """

    name, type = "keep first", "fenghuo"

    def __init__(self, folder: Path, shown: Path) -> None:
        super().__init__()
        self.folder, self.shown = folder, shown
        self.figures: dict[str, Any] = {}

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        repeats = np.load(self.folder / f"{rank:05d}.npy").tolist()
        asked = json.loads(self.shown.read_bytes()) if self.shown.exists() else []
        wanted = {document for cluster in asked for part, document in cluster if part == rank}
        removed, heads, number = dict[str, Count](), list[dict[str, Any]](), 0
        for number, document in enumerate(data, start=1):
            if number > len(repeats):
                break
            if number - 1 in wanted:
                heads.append({"document": number - 1, "text": document.text[:_HEAD], **document.metadata})
            if repeats[number - 1]:
                rule = "near_duplicate" if repeats[number - 1] == NEAR else "duplicate"
                removed.setdefault(rule, Count()).add(document.text, len(document.text))
            else:
                yield document
        if number != len(repeats):
            raise DamagedError(
                f"part {rank} of the input changed while it was read: it has other documents now"
            )
        counts = {rule: count.to_json() for rule, count in removed.items()}
        self.figures = {"removed": counts, "shown": heads}


class Shards(PipelineStep):  # type: ignore[misc]
    """Documents → pieces, word and sentence edges → shards."""

    name, type = "write shards", "fenghuo"

    def __init__(self, folder: Path, *, tokenizer: Path, segmenter: str, heldout: float) -> None:
        super().__init__()
        self.folder, self.tokenizer, self.segmenter, self.heldout = folder, tokenizer, segmenter, heldout
        self.figures: dict[str, Any] = {}

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        tokenizer, segmenter = _tokenizer(self.tokenizer), _segmenter(self.segmenter)
        fingerprints = {"tokenizer": tokenizer.fingerprint, "segmenter": segmenter.name}
        waiting: list[Documents] = []
        lines: list[ShardLine] = []
        figures = dict.fromkeys(("characters", "words", "sentences", "unknown_pieces"), 0)

        def write() -> None:
            path = self.folder / f"{rank:05d}-{len(lines):02d}.arrow"
            size = tokenizer.vocabulary.size
            lines.append(write_shard(path, waiting, vocabulary_size=size, fingerprints=fingerprints))
            waiting.clear()

        empty, lengths = Count(), dict[str, list[int]]()
        for group in _groups(data):
            kept = []
            encoded = tokenizer.encode_batch([document.text for document in group])
            for document, pieces in zip(group, encoded, strict=True):
                if len(pieces):
                    kept.append((document, pieces))
                else:  # characters of private use, or marks that a normalizer takes away
                    empty.add(document.text, len(document.text))
            if not kept:
                continue
            found = self._cut(kept, tokenizer, segmenter)
            figures["characters"] += sum(len(document.text) for document, _ in kept)
            figures["words"] += int(found.word_start.sum())
            figures["sentences"] += int(found.sentence_start.sum())
            figures["unknown_pieces"] += int((found.pieces == tokenizer.vocabulary.unk).sum())
            add_lengths(lengths, found)
            waiting.append(found)
            if sum(len(part.pieces) for part in waiting) >= SHARD_PIECES:
                write()
        if waiting:
            write()
        removed = {"no_pieces": empty.to_json()} if empty.count else {}
        self.figures = {
            **figures,
            "lengths": lengths,
            "removed": removed,
            "shards": [asdict(line) for line in lines],
        }
        return iter(())

    def _cut(
        self, group: Sequence[tuple[Document, Pieces]], tokenizer: Tokenizer, segmenter: Segmenter
    ) -> Documents:
        texts = [document.text for document, _ in group]
        joined = "\n".join(texts)
        begins = np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1]
        spans = [spans_of(segmenter, text) + begin for text, begin in zip(texts, begins, strict=True)]
        encoded = [pieces for _, pieces in group]
        lengths = np.array([len(pieces) for pieces in encoded])
        shift = np.repeat(begins, lengths).astype(np.int32)
        pieces = Pieces(
            ids=np.concatenate([pieces.ids for pieces in encoded]),
            starts=np.concatenate([pieces.starts for pieces in encoded]) + shift,
            ends=np.concatenate([pieces.ends for pieces in encoded]) + shift,
        )
        limit = int(self.heldout * (1 << 64))
        return Documents(
            pieces=pieces.ids.astype(smallest_kind(tokenizer.vocabulary.size)),
            word_start=word_starts(pieces, np.concatenate(spans), joined),
            sentence_start=sentence_starts(pieces.starts, joined),
            lengths=lengths,
            heldout=np.array([int.from_bytes(signature(text)[:8], "little") < limit for text in texts]),
            sources=[document.metadata["source"] for document, _ in group],
        )


class Report(PipelineStep):  # type: ignore[misc]
    """Runs the other steps to their end and writes down what they counted."""

    name, type = "report", "fenghuo"

    def __init__(self, folder: Path, steps: Sequence[Any]) -> None:
        super().__init__()
        self.folder, self.steps = folder, steps

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        deque(data, maxlen=0)
        figures = {step.name: step.figures for step in self.steps}
        write_json(self.folder / f"{rank:05d}.json", figures)
        return iter(())


def _groups(data: Any) -> Iterator[list[Document]]:
    group: list[Document] = []
    length = 0
    for document in data:
        group.append(document)
        length += len(document.text)
        if length >= _TOGETHER:
            yield group
            group, length = [], 0
    if group:
        yield group


# Loaded once a process, not once a task: a tokenizer's cache grows warm, a segmenter's dictionary is large.
@cache
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.load(path).plain()


@cache
def _segmenter(name: str) -> Segmenter:
    return load_segmenter(name)
