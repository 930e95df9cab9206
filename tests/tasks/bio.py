"""BIO tags the other way round."""

from __future__ import annotations

from collections.abc import Sequence


def tags_of(spans: Sequence[tuple[int, int, str]], count: int) -> list[str]:
    """Spans that do not overlap → `count` BIO tags: the way back from `spans_of`."""
    tags = ["O"] * count
    for start, stop, label in spans:
        tags[start:stop] = [f"B-{label}"] + [f"I-{label}"] * (stop - start - 1)
    return tags
