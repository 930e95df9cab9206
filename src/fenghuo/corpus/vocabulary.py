"""`fenghuo vocab train`: files of raw text → a tokenizer folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fenghuo.corpus.read import read_documents
from fenghuo.errors import RunError
from fenghuo.progress import say, track
from fenghuo.rundir import folder_atomic
from fenghuo.text.vocabulary import train_vocabulary


def train(
    input: Sequence[str], out: Path, *, size: int = 21128, lowercase: bool = True, min_frequency: int = 2
) -> None:
    """Learn a WordPiece vocabulary from text and write it as a tokenizer folder.

    Args:
        input: files, folders or globs, as a corpus recipe takes them.
        out: folder to make, absent or empty.
        size: pieces, special ones counted.
        lowercase: fold case and strip accents.
        min_frequency: a piece that occurs less often is left out.

    Raises:
        RunError: there is something in `out`.
        DataError: the input cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: there is something already; name a folder to make")
    tokenizer = train_vocabulary(_texts(input), size=size, lowercase=lowercase, min_frequency=min_frequency)
    with folder_atomic(out) as folder:
        tokenizer.save(folder)
    say(f"{out}: {tokenizer.vocabulary.size:,} pieces")


def _texts(input: Sequence[str]) -> Iterator[str]:
    with track("vocabulary", None, "documents") as progress:
        for document in read_documents(list(input)):
            progress.advance()
            yield document.text
