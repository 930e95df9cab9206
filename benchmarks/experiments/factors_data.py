"""Text and labelled rows of `pretraining_factors.py`: drawn from files that others published, never part of fenghuo.

DATA/raw_zh/{lctt,modern}.zh.txt.gz        technical articles with paragraphs; history, a sentence a line
DATA/chnsenticorp/{train,dev,test}.tsv     reviews; 938 of 12,000 texts stand there more than once
DATA/pairs_zh/LCQMC/{dev,test}.txt         questions; there is no train file, so test is learned from and dev is asked
DATA/ner_zh/peopledaily/{train,dev}.txt    entities
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

Row = TypeVar("Row")

ARTICLES, BLOCKS = 420, 360  # of 2,000 characters on average, and of 60 sentences: 1.37 million pieces
FEW = 6  # of so many documents, one
SHORT = 120  # characters, so that the text fits the 128 pieces of pretraining
_BLOCK_LINES = 60
REVIEWS, REVIEWS_ASKED = 1_200, 1_000
PAIRS, PAIRS_ASKED = 4_000, 3_000
SENTENCES, SENTENCES_ASKED = 2_000, 1_500


def read_text(data: Path) -> str:
    """Paragraphs one a line, a blank line after each document; drawn evenly over both files."""
    with gzip.open(data / "raw_zh" / "lctt.zh.txt.gz", "rt", encoding="utf-8") as file:
        articles = [part.strip() for part in file.read().split("\n\n") if part.strip()]
    with gzip.open(data / "raw_zh" / "modern.zh.txt.gz", "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip()]
    blocks = ["\n".join(lines[at : at + _BLOCK_LINES]) for at in range(0, len(lines), _BLOCK_LINES)]
    chosen = random.Random(0)
    documents = chosen.sample(articles, ARTICLES) + chosen.sample(blocks, BLOCKS)
    chosen.shuffle(documents)
    return "\n\n".join(documents) + "\n"


def few_documents(text: str) -> str:
    """A part of `read_text`, both kinds in it."""
    return "\n\n".join(text.strip().split("\n\n")[::FEW]) + "\n"


def short_rows(rows: str) -> str:
    """The rows of short texts, and the header."""
    header, *lines = rows.splitlines(keepends=True)
    return header + "".join(line for line in lines if len(line.partition("\t")[2].strip()) <= SHORT)


def read_reviews(data: Path) -> tuple[str, str]:
    """Train and test, each text once: a text of dev or test, or one with both labels, is not learned."""
    rows = {name: list(_reviews(data / "chnsenticorp" / f"{name}.tsv")) for name in ("train", "dev", "test")}
    labels: dict[str, set[str]] = {}
    for label, text in (row for part in rows.values() for row in part):
        labels.setdefault(text, set()).add(label)
    kept_back = {text for name in ("dev", "test") for _, text in rows[name]}
    learned = [
        row for row in _distinct(rows["train"]) if row[1] not in kept_back and len(labels[row[1]]) == 1
    ]
    asked = [row for row in _distinct(rows["test"]) if len(labels[row[1]]) == 1]
    names = ("label", "text")
    return _tsv(names, _drawn(learned, REVIEWS)), _tsv(names, _drawn(asked, REVIEWS_ASKED))


def read_pairs(data: Path) -> tuple[str, str]:
    """Questions that mean the same or not; no pair that is asked is learned."""
    learned, asked = (list(_pairs(data / "pairs_zh" / "LCQMC" / name)) for name in ("test.txt", "dev.txt"))
    known = {row[:2] for row in asked}
    names = ("text", "text_pair", "label")
    kept = [row for row in learned if row[:2] not in known]
    return _tsv(names, _drawn(kept, PAIRS)), _tsv(names, _drawn(asked, PAIRS_ASKED))


def read_entities(data: Path) -> tuple[str, str]:
    """`character TAG` lines, as they are."""
    files = {
        name: (data / "ner_zh" / "peopledaily" / f"{name}.txt").read_text(encoding="utf-8")
        for name in ("train", "dev")
    }
    sentences = {name: [part for part in text.split("\n\n") if part.strip()] for name, text in files.items()}
    drawn = _drawn(sentences["train"], SENTENCES), _drawn(sentences["dev"], SENTENCES_ASKED)
    return "\n\n".join(drawn[0]) + "\n", "\n\n".join(drawn[1]) + "\n"


def _drawn(rows: list[Row], size: int) -> list[Row]:
    return random.Random(0).sample(rows, size)


def _reviews(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as file:
        for line in islice(file, 1, None):
            label, _, text = line.rstrip("\n").partition("\t")
            yield label, " ".join(text.split())


def _pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        first, second, label = line.split("\t")
        yield first, second, label


def _distinct(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return list({text: (label, text) for label, text in rows}.values())


def _tsv(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in (names, *rows))
