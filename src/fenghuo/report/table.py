"""Text tables whose columns stand straight on a terminal, Chinese characters included."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = False
    """Numbers stand to the right."""


def width(text: str) -> int:
    """Cells on a terminal: two for a wide character, none for a combining or invisible one."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cc", "Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Columns two blanks apart, under their titles and a rule; no blanks at the ends of lines."""
    # A line break or a control character in a name must not break the table, nor drive the terminal.
    printed = [[_printable(cell) for cell in row] for row in rows]
    lines = [[column.title for column in columns], *printed]
    widths = [max(width(line[place]) for line in lines) for place in range(len(columns))]
    lines.insert(1, ["-" * number for number in widths])
    return "\n".join(
        "  ".join(
            _pad(cell, wide, column.right) for cell, wide, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    )


def _pad(text: str, wide: int, right: bool) -> str:
    blanks = " " * (wide - width(text))
    return blanks + text if right else text + blanks


def _printable(text: str) -> str:
    return "".join(
        "?" if unicodedata.category(character) in ("Cc", "Cs") else character for character in text
    )
