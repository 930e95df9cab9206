"""`fenghuo vocab train`: files of raw text → a tokenizer folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from fenghuo.corpus.read import read_documents
from fenghuo.corpus.recipe import InputRecipe
from fenghuo.errors import RecipeError
from fenghuo.progress import say, track
from fenghuo.rundir import folder_atomic, refuse_filled
from fenghuo.text.byte_pairs import train_byte_pairs
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.unigram import train_unigram
from fenghuo.text.vocabulary import train_vocabulary
from fenghuo.text.words import load_segmenter

Kind = Literal["wordpiece", "bpe", "unigram"]


def train(
    input: Sequence[str],
    out: Path,
    *,
    text_key: str = "text",
    kind: Kind = "wordpiece",
    size: int = 21128,
    lowercase: bool | None = None,
    min_frequency: int = 2,
) -> None:
    """Learn a vocabulary from text and write it as a tokenizer folder.

    Args:
        input: files, folders or globs, as a corpus recipe takes them.
        out: folder to make, absent or empty.
        text_key: key (jsonl) or column (parquet) that holds a document.
        kind: BERT's WordPiece, RoBERTa's byte pairs over bytes, or a unigram model as ALBERT has it.
        size: pieces, special ones counted.
        lowercase: fold case and strip accents; None: yes, but not over bytes.
        min_frequency: a piece that occurs less often is left out.

    Raises:
        RunError: there is something in `out`.
        RecipeError: a size without room; folding of bytes.
        DataError: the input cannot be read.
    """
    refuse_filled(out)
    if kind == "bpe" and lowercase:
        raise RecipeError(
            "--lowercase: byte pairs keep case, as RoBERTa's do; fold the text, or take another --kind"
        )
    tokenizer = _learnt(_texts(input, text_key), kind, size, lowercase is not False, min_frequency)
    with folder_atomic(out) as folder:
        tokenizer.save(folder)
    found = tokenizer.vocabulary.size
    short = "" if found == size else f", not {size:,}: the text has no more that occur {min_frequency} times"
    say(f"{out}: {found:,} pieces{short}")


def _learnt(texts: Iterator[str], kind: Kind, size: int, lowercase: bool, min_frequency: int) -> Tokenizer:
    if kind == "wordpiece":
        return train_vocabulary(texts, size=size, lowercase=lowercase, min_frequency=min_frequency)
    segmenter = load_segmenter("rjieba")
    if kind == "bpe":
        return train_byte_pairs(texts, size=size, segmenter=segmenter, min_frequency=min_frequency)
    return train_unigram(
        texts, size=size, segmenter=segmenter, lowercase=lowercase, min_frequency=min_frequency
    )


def _texts(input: Sequence[str], text_key: str) -> Iterator[str]:
    with track("vocabulary", None, "documents") as progress:
        for document in read_documents([InputRecipe(path=one, text_key=text_key) for one in input]):
            progress.advance()
            yield document.text
