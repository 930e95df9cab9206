"""Where special pieces stand: before a text, between two, after the last. A tokenizer's post-processor says it.

The library itself is asked, so that every kind of post-processor (BERT's, RoBERTa's, a template, a sequence of
them) is read in one way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import models, processors

_WORD: Any = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).encode("a")
"""A text of one piece, in place of any other."""


@dataclass(frozen=True)
class Framing:
    """`opening a closing`, and `opening a *between b closing`, by ids."""

    opening: int
    between: tuple[int, ...]
    closing: int
    second: int
    """Segment of `b closing`; that of all before it is 0."""


def framing_of(backend: Any) -> Framing | None:
    """What the tokenizer's post-processor puts around texts; None where it puts nothing there.

    Raises:
        ValueError: something else than one piece before, one after, and some between.
    """
    if backend.post_processor is None:
        return None
    one, two = backend.post_processor.process(_WORD), backend.post_processor.process(_WORD, _WORD)
    if one.sequence_ids == [0] and two.sequence_ids == [0, 1]:
        return None
    places = two.sequence_ids
    a, b = places.index(0), places.index(1)
    found = Framing(two.ids[0], tuple(two.ids[a + 1 : b]), two.ids[-1], two.type_ids[-1])
    segments = [0] * b + [found.second] * 2
    if (
        (a, b + 2, two.type_ids) != (1, len(places), segments)
        or one.sequence_ids != [None, 0, None]
        or [one.ids[0], one.ids[2], *one.type_ids] != [found.opening, found.closing, 0, 0, 0]
        or not found.between
    ):
        raise ValueError(
            f"its post-processor frames a text as {_shown(one)} and two as {_shown(two)}; known here is one piece "
            "before, one after, and some between, as in [CLS] a [SEP] b [SEP]"
        )
    return found


def add_framing(backend: Any, cls: tuple[str, int], sep: tuple[str, int], *, double: bool) -> None:
    """Give a post-processor to a tokenizer that puts nothing around texts; what it does besides, it goes on doing.

    Args:
        cls, sep: names and ids.
        double: RoBERTa's way, with two `sep` between texts and no second segment; else BERT's.
    """
    pair = f"{cls[0]} $A {sep[0]} {sep[0]} $B {sep[0]}" if double else f"{cls[0]} $A {sep[0]} $B:1 {sep[0]}:1"
    template = processors.TemplateProcessing(
        single=f"{cls[0]} $A {sep[0]}", pair=pair, special_tokens=list(dict.fromkeys([cls, sep]))
    )
    before = backend.post_processor
    backend.post_processor = template if before is None else processors.Sequence([before, template])


def _shown(encoding: Any) -> str:
    return " ".join(
        str(piece) if text is None else "ab"[text]
        for piece, text in zip(encoding.ids, encoding.sequence_ids, strict=True)
    )
