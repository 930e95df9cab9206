"""What building a corpus will take, from a look at the beginning of some files."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from fenghuo.cores import usable_cores
from fenghuo.corpus.extend import documents_of
from fenghuo.corpus.files import amount, ranges_of
from fenghuo.corpus.given import look_up
from fenghuo.corpus.read import read_range

if TYPE_CHECKING:
    from fenghuo.corpus.files import TextFile
    from fenghuo.corpus.given import Given
    from fenghuo.corpus.recipe import CorpusRecipe

_FILES = 5  # looked into
_SAMPLE_BYTES = 400_000  # of each
_SAMPLE_DOCUMENTS = 1_000
# As measured with two processes (docs/results/2026-11-22-pretraining.md): 433 MiB in all at 60 MB of text, 553 at 600.
_COMMAND_MB, _PROCESS_MB = 150, 200
_EVALUATION_BYTES = 50  # a character, in each process (see `contamination.Index`)


def plan(recipe: CorpusRecipe) -> str:
    """Documents, characters, pieces, disk and memory, about; for `--dry-run`. Raises as `look_up` does."""
    given = look_up(recipe)
    files, tokenizer = given.files, given.tokenizer
    total = sum(part.size_bytes for group in given.parts for part in group)
    sampled_bytes, texts = 0, list[str]()
    for file in files[:: max(1, len(files) // _FILES)][:_FILES]:
        size, found = _sample(file)
        sampled_bytes += size
        texts += found
    scale = total / max(sampled_bytes, 1)
    characters = sum(map(len, texts)) * scale
    pieces = sum(map(len, tokenizer.encode_batch(texts))) * scale
    documents = len(texts) * scale
    # Offsets, signature, number of characters, held out or not.
    document_bytes = 4 + 16 + 4 + 1
    piece_bytes = (2 if tokenizer.vocabulary.size <= 1 << 16 else 4) + 0.25  # and two bits of edges
    before = (
        [f"{documents_of(given.taken)['documents']:,} documents of finished corpora go before"]
        if given.taken
        else []
    )
    return "\n".join(
        [
            *before,
            f"input: {amount(files, given.parts)}",
            f"before cleaning, about {documents:,.0f} documents, {characters:,.0f} characters, {pieces:,.0f} pieces",
            f"disk: about {(pieces * piece_bytes + documents * document_bytes) / 1e6:,.1f} MB of shards, "
            f"and {(documents * 17 + 0.5 * total) / 1e6:,.1f} MB while it works",
            f"memory: {_memory(recipe, given)}",
        ]
    )


def _memory(recipe: CorpusRecipe, given: Given) -> str:
    executor = recipe.executor
    if executor.kind != "local":
        return f"{executor.memory_gb} GB are asked for each task (executor.memory_gb)"
    processes = max(1, min(executor.workers or usable_cores(), len(given.parts)))
    each_mb = _PROCESS_MB + _EVALUATION_BYTES * given.evaluation_characters / 1e6
    return (
        f"about {_COMMAND_MB + processes * each_mb:,.0f} MB, "
        f"{each_mb:,.0f} of them in each of {processes} working processes"
    )


def _sample(file: TextFile) -> tuple[int, list[str]]:
    """Some documents from the file's beginning, and the bytes they take there, about."""
    first = next(ranges_of(file, _SAMPLE_BYTES))
    documents = read_range(first, lambda _: None)
    if file.kind != "parquet" and not file.is_stream:
        return first.size_bytes, [document.text for document in documents]
    texts = [document.text for document in islice(documents, _SAMPLE_DOCUMENTS)]
    return sum(len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts), texts
