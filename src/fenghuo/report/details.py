"""One run on the page: its curves, figures, recipe, environment, and what it was made from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fenghuo.report.charts import Panel, curves, line_key, panels
from fenghuo.report.corpus import SHOWN, corpus_section
from fenghuo.report.html import element, facts, table, text
from fenghuo.report.lineage import Run
from fenghuo.rundir.metrics import Metrics

OPEN = ("loss", "scores")
"""Panels that stand in the open; how fast and how steady the run was is folded away."""


def anchor(path: Path) -> str:
    """The name a run's article goes by inside the page."""
    return "run-" + "".join(c if c.isalnum() else "-" for c in str(path).strip("/"))


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """What tells the paths apart: each without the folder that all are in."""
    folder = Path(os.path.commonpath([path.absolute().parent for path in paths])) if paths else Path()
    return {path: str(path.absolute().relative_to(folder)) for path in paths}


def run_article(run: Run, names: Mapping[Path, str]) -> str:
    """A run as an article.

    Args:
        names: short names of all runs that are on the page, to link to.

    Raises:
        DamagedError: metrics.jsonl holds lines that fenghuo did not write.
    """
    found = panels(Metrics(run.path / "metrics.jsonl").read())
    shown = [panel for panel in found if panel.title in OPEN]
    folded = [panel for panel in found if panel.title not in OPEN]
    recipe = run.path / "recipe.yaml"
    is_corpus = run.text("role") == "corpus"
    figures = {name: value for name, value in run.result.items() if not (is_corpus and name in SHOWN)}
    parts = [
        corpus_section(run.result) if is_corpus else "",
        _details("More curves", _figures(folded)) if folded else "",
        _details("Figures", facts(figures)),
        _details("Recipe", f"<pre>{text(recipe.read_text(encoding='utf-8'))}</pre>")
        if recipe.is_file()
        else "",
        _details("Made from", _inputs(run, names)) if run.inputs else "",
        _details("Environment", facts(_environment(run))),
    ]
    role = f' <span class="role">{text(run.text("role") or run.environment.get("verb"))}</span>'
    return (
        f'<article id="{text(anchor(run.path))}"><h3>{text(names[run.path])}{role}</h3>{_headline(run)}'
        f"{_figures(shown)}{''.join(parts)}</article>"
    )


def _headline(run: Run) -> str:
    words = []
    value, metric = run.number("value"), run.text("metric")
    if value is not None and metric is not None:
        where = run.text("value_of")
        words.append(f"{metric} {value:.4f}" + (f" on {where}" if where else ""))
    seed = run.environment.get("seed")
    words += [
        f"{run.number(name):,.0f} {unit}"
        for name, unit in (("steps", "steps"), ("train_s", "s of training"))
        if run.number(name) is not None
    ]
    words += [f"seed {seed}"] if seed is not None else []
    return element("p", " · ".join(words), cls="muted small")


def _figures(found: Sequence[Panel]) -> str:
    return f'<div class="figures-grid">{"".join(map(_figure, found))}</div>' if found else ""


def _figure(panel: Panel) -> str:
    keys = "".join(f"<li>{line_key(number)}{text(name)}</li>" for number, name in enumerate(panel.series))
    return (
        f"<figure><figcaption>{text(panel.title)}</figcaption>{curves(panel)}"
        f'<ul class="legend" aria-label="Lines">{keys}</ul></figure>'
    )


def _inputs(run: Run, names: Mapping[Path, str]) -> str:
    known = {path.resolve(): path for path in names}
    rows = []
    for given in run.inputs:
        path = Path(str(given.get("path")))
        folder = path.parent if path.name == "model" else path
        target = known.get(path.resolve()) or known.get(folder.resolve())
        name = text(path) if target is None else f'<a href="#{text(anchor(target))}">{text(path)}</a>'
        digest = str(given.get("sha256") or "–")[:16]
        rows.append([text(given.get("role")), name, f"<code>{text(digest)}</code>"])
    return table([("role", False), ("path", False), ("sha256 begins", False)], rows)


def _environment(run: Run) -> dict[str, Any]:
    kept: Mapping[str, Any] = {
        name: run.environment.get(name) for name in ("verb", "seed", "hardware", "versions")
    }
    return {name: value for name, value in kept.items() if value is not None}


def _details(title: str, content: str) -> str:
    return f"<details><summary>{text(title)}</summary>{content}</details>"
