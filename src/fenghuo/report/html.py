"""The few pieces of HTML that the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def text(value: object) -> str:
    """Anything as text that cannot be taken for markup, in quotes or out of them."""
    return escape(str(value), quote=True)


def element(tag: str, content: object, *, cls: str = "") -> str:
    """An element with escaped content."""
    attribute = f' class="{text(cls)}"' if cls else ""
    return f"<{tag}{attribute}>{text(content)}</{tag}>"


def table(
    titles: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]], *, cls: str = "", head: int = 0
) -> str:
    """A table that scrolls sideways when it must, or (class `cards`) becomes cards on a narrow screen.

    Args:
        titles: of the columns, and whether each holds numbers.
        rows: cells as HTML: escape them before.
        head: the column that names the row.
    """
    top = "".join(f'<th scope="col"{_number(right)}>{text(title)}</th>' for title, right in titles)
    body = "".join(
        "<tr>"
        + "".join(_cell(place == head, title, right, cell) for place, ((title, right), cell) in pairs)
        + "</tr>"
        for pairs in (enumerate(zip(titles, row, strict=True)) for row in rows)
    )
    return (
        f'<div class="scroll" role="region" aria-label="Table" tabindex="0"><table class="{text(cls)}">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(names_row: bool, title: str, right: bool, cell: str) -> str:
    if names_row:
        return f'<th scope="row">{cell}</th>'
    classes = " ".join([*(["number"] if right else []), *([] if cell else ["empty"])])
    attribute = f' class="{classes}"' if classes else ""
    return f'<td data-title="{text(title)}"{attribute}>{cell}</td>'


def _number(right: bool) -> str:
    return ' class="number"' if right else ""


def facts(values: Mapping[str, Any]) -> str:
    """Names and values, nested ones flattened to dotted names, as a two-column table."""
    lines = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(_short(value))}</td></tr>'
        for name, value in flat(values)
    )
    return f'<div class="scroll"><table><tbody>{lines}</tbody></table></div>'


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names and what stands at the leaves."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found += flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _short(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "–" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "–"
    return str(value)
