"""Logits → answers, with numpy alone: training, evaluation and the service decode with the same code.

Shapes: S sequences, T pieces, C classes or tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SENTENCE_END = frozenset("。！？!?；;…")
CLOSING = frozenset("”’」』）)》")
CLAUSE_END = frozenset("，,、：:") | CLOSING


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities along the last axis, in float64: large logits neither overflow nor tie."""
    wide = np.asarray(logits, dtype=np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def best_class(
    logits_SC: NDArray[Any], labels: Sequence[str], all_scores: bool = False
) -> list[dict[str, Any]]:
    """The likeliest class of each sequence: `{"label", "score"}`, the score being its probability.

    With `all_scores` also `"scores"`, label → probability, from the likeliest down.
    """
    answers: list[dict[str, Any]] = []
    for share_C in softmax(logits_SC):
        best = int(share_C.argmax())
        answer: dict[str, Any] = {"label": labels[best], "score": _round(share_C[best])}
        if all_scores:
            order = np.argsort(-share_C, kind="stable")
            answer["scores"] = {labels[i]: _round(share_C[i]) for i in order}
        answers.append(answer)
    return answers


def numbers(logits_S1: NDArray[Any]) -> list[dict[str, Any]]:
    """A regression's answers: `{"score": number}`, in the unit of the training labels."""
    return [{"score": _round(number)} for number in np.asarray(logits_S1).reshape(-1)]


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """BIO tags → (first, one past last, label), in pieces.

    Broken sequences are read as the CoNLL-2000 scorer does: an `I-X` that follows anything
    but `B-X` or `I-X` begins a span of its own, so that nothing a model found is thrown away.
    """
    spans: list[tuple[int, int, str]] = []
    start, label = 0, ""
    for place, tag in enumerate(tags):
        kind, _, name = tag.partition("-")
        if label and (kind != "I" or name != label):
            spans.append((start, place, label))
            label = ""
        if kind != "O" and not label:
            start, label = place, name
    if label:
        spans.append((start, len(tags), label))
    return spans


def entities(
    logits_TC: NDArray[Any],
    labels: Sequence[str],
    starts_T: NDArray[Any],
    ends_T: NDArray[Any],
    text: str,
) -> list[dict[str, Any]]:
    """The entities of one text, by character offsets in it.

    Args:
        logits_TC: one row a piece of `text`, without special pieces.
        labels: C tags: "O", "B-PER", "I-PER", …
        starts_T, ends_T: each piece's characters, as the tokenizer gives them.

    Returns:
        `{"start", "end", "label", "text", "score"}` in the text's order; `text[start:end]` is the
        entity, the score is the mean probability of its pieces' tags.
    """
    if len(starts_T) == 0:
        return []
    share_TC = softmax(logits_TC)
    best_T = share_TC.argmax(axis=-1)
    found: list[dict[str, Any]] = []
    before = 0
    for first, stop, label in spans_of([labels[i] for i in best_T]):
        # One character may give several pieces (한), whose tags need not agree: the first entity has it.
        start, end = max(int(starts_T[first]), before), int(ends_T[stop - 1])
        if start >= end:
            continue
        before = end
        score = share_TC[np.arange(first, stop), best_T[first:stop]].mean()
        found.append(
            {"start": start, "end": end, "label": label, "text": text[start:end], "score": _round(score)}
        )
    return found


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a long text, in pieces: the model sees `start..stop`, `keep_start..keep_stop` count."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def windows(text: str, starts_T: NDArray[Any], ends_T: NDArray[Any], *, size: int) -> list[Window]:
    """Cut T pieces into windows of at most `size`, so that every piece is kept exactly once.

    A window ends with the last sentence that fits, if that leaves it half full: no entity crosses
    a sentence's end. Where a sentence is longer, windows overlap by at least `size // 8` pieces on
    either side of the boundary, which is laid after punctuation or at least between words; tags
    are decoded after the kept stretches are joined, so an entity across the boundary stays whole.
    """
    if size < 1:
        raise ValueError(f"a window of {size} pieces holds nothing")
    count, context = len(starts_T), size // 8
    edges = _Edges(text, starts_T, ends_T)
    found: list[Window] = []
    start = keep = 0
    while count - start > size:
        stop = start + size
        cut = _last_edge(start + size // 2, stop, edges.sentence)
        if cut is not None:
            found.append(Window(start, cut, keep, cut))
            start = keep = cut
            continue
        near = (stop - 3 * context, stop - context)
        cut = _last_edge(*near, edges.clause) or _last_edge(*near, edges.word) or stop - context
        found.append(Window(start, stop, keep, cut))
        start, keep = cut - context, cut
    if count:
        found.append(Window(start, count, keep, count))
    return found


def is_blank(text: str) -> bool:
    """Whether there is nothing to ask about: such a text is refused wherever rows are read."""
    return not text.strip()


def join_tokens(tokens: Sequence[str]) -> str:
    """Tokens → one text: a space only between two tokens that meet with letters or digits outside Chinese,
    Japanese and Korean ideographs and kana ("New" "York"), which would otherwise become one word.

    Tokens that are all single characters are a text written character by character: nothing stands between them.
    """
    if all(len(token) <= 1 for token in tokens):
        return "".join(tokens)
    parts: list[str] = []
    before = ""
    for token in tokens:
        if before and token and _written_apart(before[-1]) and _written_apart(token[0]):
            parts.append(" ")
        parts.append(token)
        before = token or before
    return "".join(parts)


def _written_apart(character: str) -> bool:
    code = ord(character)
    ideograph = 0x3040 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF
    return character.isalnum() and not (ideograph or 0x20000 <= code <= 0x3FFFF)


def _last_edge(after: int, last: int, is_edge: Callable[[int], bool]) -> int | None:
    return next((place for place in range(last, after, -1) if is_edge(place)), None)


class _Edges:
    """What lies between two neighbouring pieces; `place` is the second one's number."""

    def __init__(self, text: str, starts_T: NDArray[Any], ends_T: NDArray[Any]) -> None:
        self.text, self.starts_T, self.ends_T = text, starts_T, ends_T

    def sentence(self, place: int) -> bool:
        end, start = int(self.ends_T[place - 1]), int(self.starts_T[place])
        before, gap, after = (
            self.text[max(end - 2, 0) : end],
            self.text[end:start],
            self.text[start : start + 1],
        )
        if "\n" in gap or (before.endswith(".") and gap):
            return True
        if after in SENTENCE_END or after in CLOSING:  # it belongs to the sentence before
            return False
        return before[-1:] in SENTENCE_END or (before[-1:] in CLOSING and before[:1] in SENTENCE_END)

    def clause(self, place: int) -> bool:
        end = int(self.ends_T[place - 1])
        return self.text[end - 1 : end] in CLAUSE_END

    def word(self, place: int) -> bool:
        end, start = int(self.ends_T[place - 1]), int(self.starts_T[place])
        return end < start or not (
            _written_apart(self.text[end - 1 : end]) and _written_apart(self.text[start : start + 1])
        )


def _round(number: Any) -> float:
    return round(float(number), 6)
