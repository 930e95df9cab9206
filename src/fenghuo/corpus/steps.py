"""The steps of the corpus pipeline, in datatrove's form; one task is one part of the input.

A step's `figures` are what it counted in its task, for the report of that task.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datatrove.pipeline.base import PipelineStep

from fenghuo.corpus import texts
from fenghuo.corpus.bad_lines import Aside
from fenghuo.corpus.clean import Cleaner, Count
from fenghuo.corpus.duplicates import save_signatures
from fenghuo.corpus.figures import add_lengths
from fenghuo.corpus.format import Documents, ShardLine, smallest_kind, write_shard
from fenghuo.corpus.near import NEAR
from fenghuo.corpus.parts import read_parts
from fenghuo.corpus.read import read_range
from fenghuo.corpus.sentences import sentence_starts
from fenghuo.corpus.signature import signatures
from fenghuo.rundir import write_json
from fenghuo.text.groups import in_groups
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.words import Segmenter, load_segmenter, spans_of_joined, word_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fenghuo.corpus.recipe import CleanRecipe

COUNTED = ("characters", "words", "sentences", "unknown_pieces")
SHARD_PIECES = 8_000_000  # about 18 MB; a shard is put together in memory
_HEAD = 160  # characters of a document that are shown
_TOGETHER = 1 << 15  # characters that are cut into pieces and words at once: numpy costs something a call


class Read(PipelineStep):  # type: ignore[misc]
    """Documents of this task's part.

    Args:
        parts: the file that says what they are (see `parts`): ten thousand of them would make each task heavy.
        bad: folder for the lines that cannot be read.
    """

    name, type = "read text", "fenghuo"

    def __init__(self, parts: Path, bad: Path) -> None:
        super().__init__()
        self.parts, self.bad = parts, bad
        self.figures: dict[str, Any] = {}

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
        documents = characters = 0
        with Aside(self.bad / f"{rank:05d}.jsonl") as aside:
            for number, part in enumerate(read_parts(self.parts)[rank]):
                for found in read_range(part, partial(aside.add, number)):
                    documents += 1
                    characters += len(found.text)
                    yield texts.Text(found.text, found.source, number, found.line)
        self.figures = {"documents": documents, "characters": characters, "bad_lines": aside.count}


class Clean(PipelineStep):  # type: ignore[misc]
    """Documents mended, some left out."""

    name, type = "clean", "fenghuo"

    def __init__(self, recipe: CleanRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.figures: dict[str, Any] = {}

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
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
    """The signatures of this task's documents, into a file and to each document."""

    name, type = "sign", "fenghuo"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
        found = bytearray()
        for group in in_groups(data, texts.length, _TOGETHER):
            for document, signed in zip(group, signatures([one.text for one in group]), strict=True):
                found += signed
                document.signature = signed
                yield document
        save_signatures(self.folder / f"{rank:05d}.npy", found)


class Store(PipelineStep):  # type: ignore[misc]
    """Keeps this task's documents for the next pass, so that nothing is read and cleaned twice."""

    name, type = "store", "fenghuo"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
        with texts.Writer(self.folder / f"{rank:05d}.zst") as writer:
            for document in data:
                writer.add(document)
                yield document


class Stored(PipelineStep):  # type: ignore[misc]
    """The documents that `Store` kept."""

    name, type = "stored", "fenghuo"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
        return texts.read(self.folder / f"{rank:05d}.zst")


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

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
        repeats = np.load(self.folder / f"{rank:05d}.npy").tolist()
        asked = json.loads(self.shown.read_bytes()) if self.shown.exists() else []
        wanted = {document for cluster in asked for part, document in cluster if part == rank}
        removed, heads = dict[str, Count](), list[dict[str, Any]]()
        for number, (document, repeated) in enumerate(zip(data, repeats, strict=True)):
            if number in wanted:
                place = {"source": document.source, "range": document.range, "line": document.line}
                heads.append({"document": number, "text": document.text[:_HEAD], **place})
            if repeated:
                rule = "near_duplicate" if repeated == NEAR else "duplicate"
                removed.setdefault(rule, Count()).add(document.text, len(document.text))
            else:
                yield document
        self.figures = {"removed": {rule: count.to_json() for rule, count in removed.items()}, "shown": heads}


class Shards(PipelineStep):  # type: ignore[misc]
    """Documents → pieces, word and sentence edges → shards."""

    name, type = "write shards", "fenghuo"

    def __init__(self, folder: Path, *, tokenizer: Path, segmenter: str, heldout: float) -> None:
        super().__init__()
        self.folder, self.tokenizer, self.segmenter, self.heldout = folder, tokenizer, segmenter, heldout
        self.figures: dict[str, Any] = {}

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
        tokenizer, segmenter = plain_tokenizer(self.tokenizer), _segmenter(self.segmenter)
        fingerprints = {"tokenizer": tokenizer.fingerprint, "segmenter": segmenter.name}
        waiting: list[Documents] = []
        lines: list[ShardLine] = []
        figures = dict.fromkeys(COUNTED, 0)
        empty, pieces = Count(), 0

        def write() -> None:
            path = self.folder / f"{rank:05d}-{len(lines):02d}.arrow"
            size = tokenizer.vocabulary.size
            lines.append(write_shard(path, waiting, vocabulary_size=size, fingerprints=fingerprints))
            waiting.clear()

        lengths = dict[str, list[int]]()
        for group in in_groups(data, texts.length, _TOGETHER):
            found, removed = self._cut(group, tokenizer, segmenter)
            for text in removed:  # characters of private use, or marks that a normalizer takes away
                empty.add(text, len(text))
            if len(found.lengths):
                figures.update(count_up(figures, found, tokenizer.vocabulary.unk))
                add_lengths(lengths, found)
                waiting.append(found)
                pieces += len(found.pieces)
            if pieces >= SHARD_PIECES:
                write()
                pieces = 0
        if waiting:
            write()
        counts = {"no_pieces": empty.to_json()} if empty.count else {}
        shards = [asdict(line) for line in lines]
        self.figures = {**figures, "lengths": lengths, "removed": counts, "shards": shards}
        return iter(())

    def _cut(
        self, group: Sequence[texts.Text], tokenizer: Tokenizer, segmenter: Segmenter
    ) -> tuple[Documents, list[str]]:
        """The documents, and the texts of those that have no piece."""
        given = [document.text for document in group]
        pieces, lengths = tokenizer.encode_joined(given)
        joined = "\n".join(given)
        spans = spans_of_joined(segmenter, given)
        kept = np.flatnonzero(lengths).tolist()
        signed = np.frombuffer(b"".join(_signed([group[at] for at in kept])), "<u8").reshape(-1, 2)
        found = Documents(
            pieces=pieces.ids.astype(smallest_kind(tokenizer.vocabulary.size)),
            word_start=word_starts(pieces, spans, joined),
            sentence_start=sentence_starts(pieces.starts, joined),
            lengths=lengths[kept],
            heldout=signed[:, 0] < np.uint64(int(self.heldout * (1 << 64))),
            sources=[group[at].source for at in kept],
            signatures=signed,
            characters=np.array([len(given[at]) for at in kept], np.uint32),
        )
        return found, [given[at] for at in np.flatnonzero(lengths == 0).tolist()]


class Report(PipelineStep):  # type: ignore[misc]
    """Runs the other steps to their end and writes down what they counted."""

    name, type = "report", "fenghuo"

    def __init__(self, folder: Path, steps: Sequence[Any]) -> None:
        super().__init__()
        self.folder, self.steps = folder, steps

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[texts.Text]:
        deque(data, maxlen=0)
        figures = {step.name: step.figures for step in self.steps if hasattr(step, "figures")}
        write_json(self.folder / f"{rank:05d}.json", figures)
        return iter(())


def _signed(group: Sequence[texts.Text]) -> list[bytes]:
    if all(document.signature for document in group):  # a pass before this one signed them
        return [document.signature for document in group]
    return signatures([document.text for document in group])


def count_up(so_far: dict[str, int], found: Documents, unknown: int) -> dict[str, int]:
    """What a report says of documents, with more of them."""
    return {
        "characters": so_far["characters"] + int(found.characters.sum()),
        "words": so_far["words"] + int(found.word_start.sum()),
        "sentences": so_far["sentences"] + int(found.sentence_start.sum()),
        "unknown_pieces": so_far["unknown_pieces"] + int((found.pieces == unknown).sum()),
    }


# Loaded once a process, not once a task: a tokenizer's cache grows warm, a segmenter's dictionary is large.
@cache
def plain_tokenizer(path: Path) -> Tokenizer:
    """A folder's tokenizer, to which special names in the text are text."""
    return Tokenizer.load(path).plain()


@cache
def _segmenter(name: str) -> Segmenter:
    return load_segmenter(name)
