"""What a reader wants to know first: how small, how fast, and at what price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fenghuo.report.html import element, text
from fenghuo.report.ledger import Row


def tiles(rows: Sequence[Row], names: Mapping[Path, str]) -> str:
    """A tile for each teacher with something smaller below it: the smallest of its line against it."""
    made = [
        _tile(teacher, row, names)
        for teacher in rows
        if teacher.role == "teacher"
        for row in _smallest(teacher, rows)
    ]
    return f'<div class="tiles">{"".join(made)}</div>' if made else ""


def _smallest(teacher: Row, rows: Sequence[Row]) -> list[Row]:
    """The smallest model that was measured against this teacher (none, or one)."""
    line = [
        row
        for row in rows
        if row is not teacher
        and row.drop is not None
        and (row.task, row.metric) == (teacher.task, teacher.metric)
        and row.bytes is not None
        and row.role != "teacher"
    ]
    return sorted(line, key=lambda row: row.bytes or 0)[:1]


def _tile(teacher: Row, row: Row, names: Mapping[Path, str]) -> str:
    figures = [(f"{row.metric}", "–" if row.value is None else f"{100 * row.value:.2f}")]
    if row.drop is not None:
        figures.append(("points lost", f"{row.drop:.2f}".replace("-", "−")))
    if row.bytes and teacher.bytes:
        figures.append(("smaller", f"{teacher.bytes / row.bytes:.1f}x"))
    if row.speedup is not None:
        figures.append(("faster", f"{row.speedup:.1f}x"))
    listed = "".join(f"<div>{element('dt', name)}{element('dd', value)}</div>" for name, value in figures)
    heading = f"<p><b>{text(row.task)}</b>: {text(row.model)}</p>"
    return (
        f'<section class="tile" aria-label="{text(row.task)}">{heading}'
        f'<dl class="figures">{listed}</dl>'
        f"{element('p', f'{_name(row, names)} against {_name(teacher, names)}', cls='muted small')}</section>"
    )


def _name(row: Row, names: Mapping[Path, str]) -> str:
    return names.get(Path(row.run), row.run)
