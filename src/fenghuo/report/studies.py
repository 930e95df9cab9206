"""The table of a study over seeds: each comparison with its interval, drawn on one scale."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fenghuo.errors import DamagedError
from fenghuo.report.html import element, table, text

STUDY = "study.json"
_FIELDS = ("comparison", "task", "metric", "mean_difference", "low", "high", "n", "values_a", "values_b")


def read_study(path: Path) -> list[dict[str, Any]]:
    """The entries of `path`, or of the study.json in it; none where there is no such file.

    Raises:
        DamagedError: the file is not a list of comparisons.
    """
    file = path if path.name == STUDY else path / STUDY
    if not file.is_file():
        return []
    try:
        entries = json.loads(file.read_bytes())
    except (OSError, ValueError) as problem:
        raise DamagedError(f"{file}: cannot be read: {problem}") from None
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        missing = [name for name in _FIELDS if not isinstance(entry, Mapping) or name not in entry]
        if missing:
            raise DamagedError(f"{file}: entry {number} lacks {', '.join(missing)}")
    return list(entries)


def study_section(entries: Sequence[Mapping[str, Any]]) -> str:
    """Comparisons as a table; differences in points (hundredths) of the metric."""
    reach = max(100 * max(abs(entry["low"]), abs(entry["high"])) for entry in entries) or 1.0
    titles = [
        ("comparison", False),
        ("task", False),
        ("metric", False),
        ("baseline", True),
        ("tried", True),
        ("difference, 95 %", True),
        (f"−{reach:.1f} … 0 … +{reach:.1f}", False),
        ("seeds", True),
    ]
    note = (
        "Mean ± standard deviation over seeds, and the mean of the paired differences with its 95 % t "
        "interval, in points of the metric. An interval that crosses the line at 0 is no finding."
    )
    return table(titles, [_cells(entry, reach) for entry in entries], cls="cards") + element(
        "p", note, cls="muted small"
    )


def _cells(entry: Mapping[str, Any], reach: float) -> list[str]:
    mean, low, high = (100 * entry[name] for name in ("mean_difference", "low", "high"))
    interval = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
    return [
        text(entry["comparison"]),
        text(entry["task"]),
        text(entry["metric"]),
        *(text(_spread(entry[name])) for name in ("values_a", "values_b")),
        text(interval),
        _picture(mean, low, high, reach),
        text(entry["n"]),
    ]


def _spread(values: Sequence[float]) -> str:
    mean, deviation = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * mean:.2f} ± {100 * deviation:.2f}"


def _picture(mean: float, low: float, high: float, reach: float) -> str:
    def place(value: float) -> str:
        return f"{100 + 92 * value / reach:.1f}"

    found = low > 0 or high < 0
    colour = "var(--series-1)" if found else "var(--muted)"
    return (
        f'<svg class="interval" viewBox="0 0 200 28" role="img" '
        f'aria-label="{mean:+.2f} points, interval {low:+.2f} to {high:+.2f}, '
        f'{"excludes" if found else "contains"} zero">'
        '<line x1="100" x2="100" y1="0" y2="28" stroke="var(--muted)" stroke-dasharray="3 3"/>'
        f'<line x1="{place(low)}" x2="{place(high)}" y1="14" y2="14" stroke="{colour}" stroke-width="2.5"/>'
        f'<line x1="{place(low)}" x2="{place(low)}" y1="9" y2="19" stroke="{colour}" stroke-width="2"/>'
        f'<line x1="{place(high)}" x2="{place(high)}" y1="9" y2="19" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{place(mean)}" cy="14" r="4.5" fill="{colour}"/></svg>'
    )
