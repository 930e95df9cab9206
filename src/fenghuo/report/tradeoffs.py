"""Pictures of what a score costs: in bytes on disk, and in milliseconds a text."""

from __future__ import annotations

from collections.abc import Sequence

from fenghuo.report.charts import Point, marker_key, tradeoff
from fenghuo.report.html import text
from fenghuo.report.ledger import Row

KINDS = ("teacher", "student", "quantized", "other")


def tradeoff_figures(rows: Sequence[Row]) -> str:
    """Two pictures for each task and metric with at least two models; "" where there is none."""
    numbered = [(number, row) for number, row in enumerate(rows, 1) if row.value is not None]
    groups: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for number, row in numbered:
        if row.task and row.metric and row.bytes and row.p50_ms is not None:
            groups.setdefault((row.task, row.metric), []).append((number, row))
    figures = [
        _figure(task, metric, group, by)
        for (task, metric), group in groups.items()
        if len(group) > 1
        for by in ("size", "latency")
    ]
    if not figures:
        return ""
    keys = "".join(f"<li>{marker_key(kind)}{name}</li>" for kind, name in enumerate(KINDS))
    return (
        f'<div class="figures-grid">{"".join(figures)}</div>'
        f'<ul class="legend" aria-label="Markers">{keys}<li>numbers: rows of the ledger</li></ul>'
    )


def _figure(task: str, metric: str, group: Sequence[tuple[int, Row]], by: str) -> str:
    points = []
    for number, row in group:
        x = (row.bytes or 0) / 1e6 if by == "size" else row.p50_ms
        if x and row.value is not None:
            kind = KINDS.index(row.role) if row.role in KINDS else len(KINDS) - 1
            points.append(Point(label=str(number), x=x, y=100 * row.value, kind=kind))
    label = "megabytes on disk" if by == "size" else "ms a text (p50)"
    drawn = tradeoff(points, x_label=label, y_label=f"{metric} x 100")
    return f"<figure><figcaption>{text(task)}: {text(metric)} against {by}</figcaption>{drawn}</figure>"
