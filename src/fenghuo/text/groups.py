"""Many short texts at once, where a call costs something whatever its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")


def in_groups(items: Iterable[Item], length: Callable[[Item], int], together: int) -> Iterator[list[Item]]:
    """Neighbouring items together, as many as are worth a call: those that reach a length of `together`."""
    group, total = list[Item](), 0
    for one in items:
        group.append(one)
        total += length(one)
        if total >= together:
            yield group
            group, total = [], 0
    if group:
        yield group
