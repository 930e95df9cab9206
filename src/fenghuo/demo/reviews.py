"""Shop and hotel reviews, each one line of `pos.txt` or `neg.txt`, cut into train, dev, test and the rest.

The labels are the package's: nobody has read them again, and some are wrong (the fourth line of `pos.txt`
is a complaint), so that no model reaches 100 %. Some reviews were broken into several lines by whoever
collected them; a line is the unit here.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fenghuo.demo.overlap import HeldOut, can_be_held_out, key
from fenghuo.errors import DataError

LABELS = ("negative", "positive")

# Chinese typography keeps these wide; letters, digits and the other signs become what people type today.
_KEEP_WIDE = "！（），：；？～"
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F) if chr(wide) not in _KEEP_WIDE}


def narrow(text: str) -> str:
    """Full-width letters, digits and signs → ASCII, one character for one; Chinese punctuation stays."""
    return text.translate(_NARROW)


@dataclass(frozen=True, slots=True)
class Review:
    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ReviewSplit:
    """Disjoint parts: no text of one repeats, contains or mostly repeats a held-out text (dev, test)."""

    train: list[Review]
    dev: list[Review]
    test: list[Review]
    unlabelled: list[str]
    """Texts to pretrain on beside the training reviews: the labelled ones left over, and short fragments."""
    removed: Mapping[str, int]
    """How many lines each rule took away."""


def distinct(lines: Mapping[str, Iterable[str]]) -> tuple[list[Review], dict[str, int]]:
    """Label → lines, to reviews with distinct keys in the order given; texts with both labels are dropped."""
    first: dict[str, Review] = {}
    labels: dict[str, set[str]] = {}
    repeated = 0
    for label, texts in lines.items():
        for line in texts:
            text = " ".join(narrow(line).split())
            if not text:
                continue
            text_key = key(text)
            repeated += text_key in first
            first.setdefault(text_key, Review(label, text))
            labels.setdefault(text_key, set()).add(label)
    kept = [review for text_key, review in first.items() if len(labels[text_key]) == 1]
    return kept, {"repeated": repeated, "both labels": len(first) - len(kept)}


def split_reviews(
    lines: Mapping[str, Sequence[str]], *, seed: int, train: int | None, dev: int, test: int
) -> ReviewSplit:
    """Shuffle the distinct reviews by `seed`, then take test, dev and train in that order.

    Held-out reviews are taken first, and whatever is near one of them (`HeldOut.near`) is dropped from
    every part that comes later, so that a larger `train` never changes what is measured. Fragments too short
    to be held out ("优点：") say nothing on their own: they are left to the unlabelled text.

    Args:
        lines: label → its lines.
        train: labelled rows to learn from; None takes all there are.

    Raises:
        DataError: fewer reviews than asked for.
    """
    reviews, removed = distinct(lines)
    fragments = [review.text for review in reviews if not can_be_held_out(review.text)]
    whole = [review for review in reviews if can_be_held_out(review.text)]
    random.Random(f"reviews {seed}").shuffle(whole)

    test_part, rest = whole[:test], whole[test:]
    after_test = _without_near(rest, test_part)
    dev_part, rest = after_test[:dev], after_test[dev:]
    after_dev = _without_near(rest, dev_part)
    wanted = len(after_dev) if train is None else train
    train_part, left = after_dev[:wanted], after_dev[wanted:]
    if len(test_part) < test or len(dev_part) < dev or len(train_part) < wanted:
        raise DataError(
            f"{len(whole)} distinct reviews are too few for {test} test, {dev} dev and {wanted} train rows"
        )
    near = len(whole) - test - dev - len(after_dev)
    return ReviewSplit(
        train=train_part,
        dev=dev_part,
        test=test_part,
        unlabelled=[review.text for review in left] + fragments,
        removed=removed | {"near a held-out review": near},
    )


def _without_near(reviews: Sequence[Review], held_out: Sequence[Review]) -> list[Review]:
    index = HeldOut(review.text for review in held_out)
    return [review for review in reviews if not index.near(review.text)]
