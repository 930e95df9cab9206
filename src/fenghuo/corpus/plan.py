"""What building a corpus will take, from a look at the beginning of some files."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from fenghuo.corpus.extend import documents_of, find_shards
from fenghuo.corpus.files import cut_into_parts, find_files, ranges_of
from fenghuo.corpus.read import read_range
from fenghuo.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fenghuo.corpus.files import TextFile
    from fenghuo.corpus.recipe import CorpusRecipe

_FILES = 5  # looked into
_SAMPLE_BYTES = 400_000  # of each
_SAMPLE_DOCUMENTS = 1_000


def plan(recipe: CorpusRecipe) -> str:
    """Documents, characters, pieces and disk, about; for `--dry-run`. Raises what the run would, before it works."""
    tokenizer = Tokenizer.load(recipe.tokenizer)
    files = find_files(recipe.input)
    parts = cut_into_parts(files, recipe.shards.input_mb)
    total = sum(part.size_bytes for group in parts for part in group)
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
    taken = find_shards(recipe.extend, {"tokenizer": tokenizer.fingerprint})
    before = (
        [f"{documents_of(taken)['documents']:,} documents of finished corpora go before"] if taken else []
    )
    return "\n".join(
        [
            *before,
            f"input: {len(files):,} files, about {total / 1e6:,.1f} MB of text, in {len(parts):,} parts",
            f"before cleaning, about {documents:,.0f} documents, {characters:,.0f} characters, {pieces:,.0f} pieces",
            f"disk: about {(pieces * piece_bytes + documents * document_bytes) / 1e6:,.1f} MB of shards, "
            f"and {(documents * 17 + 0.5 * total) / 1e6:,.1f} MB while it works",
        ]
    )


def _sample(file: TextFile) -> tuple[int, list[str]]:
    """Some documents from the file's beginning, and the bytes they take there, about."""
    first = next(ranges_of(file, _SAMPLE_BYTES))
    documents = read_range(first, lambda _: None)
    if file.kind != "parquet" and not file.packed:
        return first.size_bytes, [document.text for document in documents]
    texts = [document.text for document in islice(documents, _SAMPLE_DOCUMENTS)]
    return sum(len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts), texts
