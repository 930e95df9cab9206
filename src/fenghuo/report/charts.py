"""Pictures of the report as inline SVG, drawn by matplotlib.

Text stays text, drawn in the reader's fonts, and every colour is a CSS variable, so that one picture serves
light and dark screens. The same figures give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from fenghuo.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib wants colours, the page wants variables: each of these odd ones is replaced in the finished SVG.
_INK, _MUTED, _GRID = "#0b0b01", "#0b0b02", "#0b0b03"
_SERIES = tuple(f"#0c0c0{number}" for number in range(1, 7))
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--grid"} | {
    colour: f"--series-{number}" for number, colour in enumerate(_SERIES, start=1)
}
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_PANEL_INCHES = (5.4, 3.2)
_CHARACTER_POINTS = 6.2  # of a label, about; only to keep labels apart

Series = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share an axis."""

    title: str
    series: Series
    """Name → (step, value)."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in a trade-off picture."""

    label: str
    x: float
    y: float
    kind: int
    """0 teacher, 1 student, 2 quantized, 3 other: shape and colour."""


MARKERS = ("s", "o", "^", "D")


def panels(metrics: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Sort the lines of a `metrics.jsonl` into panels: losses, scores, and one each for what is left.

    A key such as `train/grad_norm` belongs to the panel of its last part; all scores share one panel, and so
    do all losses.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for line in metrics:
        for name, value in line.items():
            if name != "step" and _is_figure(value):
                series.setdefault(name, []).append((float(line["step"]), float(value)))
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in series.items():
        groups.setdefault(_group(name, points), {})[name] = points
    order = {"loss": 0, "scores": 1}
    titles = sorted(groups, key=lambda title: (order.get(title, 2), title))
    return [Panel(title=title, series=groups[title]) for title in titles]


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_SCORES = ("accuracy", "f1", "precision", "recall")


def _group(name: str, points: Sequence[tuple[float, float]]) -> str:
    last = name.rsplit("/", 1)[-1]
    if last.endswith(_SCORES) and all(0 <= value <= 1 for _, value in points):
        return "scores"
    return "loss" if last.endswith("loss") else last.replace("_", " ")


def line_key(number: int) -> str:
    """The small sample of a curve's colour and dashes that stands in a legend."""
    colour = f"var(--series-{number % len(_SERIES) + 1})"
    dash = _DASHES[number % len(_DASHES)]
    dashes = (
        ""
        if isinstance(dash, str)
        else f' stroke-dasharray="{" ".join(f"{1.5 * one:g}" for one in dash[1])}"'
    )
    return (
        '<svg class="line" viewBox="0 0 28 8" aria-hidden="true">'
        f'<line x1="0" y1="4" x2="28" y2="4" stroke="{colour}" stroke-width="2.5"{dashes}/></svg>'
    )


def marker_key(kind: int) -> str:
    """The small sample of a marker that stands in a legend."""
    shape = (
        '<rect x="1.5" y="1.5" width="9" height="9"/>',
        '<circle cx="6" cy="6" r="5"/>',
        '<path d="M6 0.5 L11.5 11 L0.5 11 Z"/>',
        '<path d="M6 0 L12 6 L6 12 L0 6 Z"/>',
    )[kind]
    return f'<svg viewBox="0 0 12 12" aria-hidden="true" fill="var(--series-{kind + 1})">{shape}</svg>'


def curves(panel: Panel) -> str:
    """A panel as SVG: value over step, a line a series."""
    with _figure() as (figure, axes):
        for number, points in enumerate(panel.series.values()):
            steps, values = zip(*points, strict=True)
            axes.plot(
                steps,
                values,
                color=_SERIES[number % len(_SERIES)],
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=1.6,
                marker="o" if len(points) < 25 else None,
                markersize=3,
            )
        axes.set_xlabel("step")
        return _svg(figure, f"{panel.title} over steps. " + _in_words(panel.series))


def _in_words(series: Series) -> str:
    return "; ".join(
        f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g} at step {points[-1][0]:.0f}"
        for name, points in series.items()
    )


def tradeoff(points: Sequence[Point], *, x_label: str, y_label: str) -> str:
    """What a score costs, as SVG: one numbered marker a model, cost on a logarithmic axis."""
    with _figure() as (figure, axes):
        for point in points:
            kind = point.kind % len(MARKERS)
            axes.scatter(
                [point.x], [point.y], marker=MARKERS[kind], s=64, color=_SERIES[kind], linewidths=0, zorder=3
            )
        axes.set_xscale("log")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label.encode("ascii", "replace").decode())  # the font that measures has no others
        axes.margins(0.14)
        _plain_ticks(axes, [point.x for point in points])
        _label(figure, axes, points)
        words = "; ".join(f"model {p.label}: {p.y:.4g} at {p.x:.4g}" for p in points)
        return _svg(figure, f"{y_label} against {x_label}. {words}")


def _plain_ticks(axes: Axes, values: Sequence[float]) -> None:
    """1, 2, 5 and their tens: a small range has no power of ten to label."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    narrow = max(values) / min(values) < 100
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


_PLACES = ((8, 5), (8, -12), (-8, 5), (-8, -12), (-3, 11), (-3, -18), (15, 12), (15, -19))
"""Offsets of a label from its marker, in points, the likeliest first."""


def _label(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Put each number beside its marker, where neither a marker nor another number stands."""
    figure.canvas.draw()
    to_points = 72 / figure.dpi
    at = [tuple(axes.transData.transform((point.x, point.y)) * to_points) for point in points]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    for point, (x, y) in zip(points, at, strict=True):
        wide = _CHARACTER_POINTS * len(point.label)
        boxes = [(x + dx - (wide if dx < -4 else 0), y + dy) for dx, dy in _PLACES]
        box = min(boxes, key=lambda box: _overlaps((*box, box[0] + wide, box[1] + 9), taken))
        taken.append((*box, box[0] + wide, box[1] + 9))
        axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=(box[0] - x, box[1] - y),
            textcoords="offset points",
            fontsize=10,
            fontweight="bold",
            color=_INK,
        )


Box = tuple[float, float, float, float]


def _overlaps(box: Box, others: Sequence[Box]) -> int:
    left, low, right, high = box
    return sum(left < x1 and x0 < right and low < y1 and y0 < high for x0, y0, x1, y1 in others)


@contextmanager
def _figure() -> Iterator[tuple[Figure, Axes]]:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure as MatplotlibFigure
    except ImportError as problem:
        raise MissingExtraError("matplotlib", "report") from problem
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "fenghuo",
        "font.size": 10,
        "text.color": _INK,
        "axes.edgecolor": _MUTED,
        "axes.labelcolor": _MUTED,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "axes.unicode_minus": False,
        "text.parse_math": False,
    }
    with rc_context(settings):  # no pyplot: nothing global, nothing to close
        figure = MatplotlibFigure(figsize=_PANEL_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(color=_GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        yield figure, axes


def _svg(figure: Figure, words: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue().decode()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", drawn, count=2)
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, f"var({variable})")
    drawn = drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(words)}" ', 1)
    return _own_names(drawn)


def _own_names(drawn: str) -> str:
    """Names inside an SVG hold for the whole page: make them this picture's own."""
    prefix = hashlib.sha256(drawn.encode()).hexdigest()[:8]
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', drawn)
    drawn = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', drawn)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", drawn)
