"""Runs → one HTML page that needs nothing but itself: ledger, trade-offs, studies, curves, recipes, lineage.

No script, no host: a content policy in the page forbids both. Whatever comes from a run is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from fenghuo.errors import RunError
from fenghuo.report.details import anchor, run_article, short_names
from fenghuo.report.html import element, table, text
from fenghuo.report.ledger import TITLES, Row, cells, footnote, ledger
from fenghuo.report.lineage import Run, read_runs
from fenghuo.report.studies import STUDY, read_study, study_section
from fenghuo.report.summary import tiles
from fenghuo.report.tradeoffs import tradeoff_figures
from fenghuo.rundir import write_atomic

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    rows: Sequence[Row] | None = None,
    threads: int | None = None,
    title: str = "fenghuo report",
) -> None:
    """Write the page of some finished runs to the file `out`.

    Args:
        runs: run folders, in the order they are to stand; a folder with a `study.json`, or that file itself,
            adds the study's table.
        rows: the ledger of these runs where it is at hand; None makes it, which times the models.
        threads: of the timed calls.

    Raises:
        RunError: not a run folder, or an unfinished one.
        DamagedError: a record that fenghuo did not write.
        DiskError: `out` cannot be written.
    """
    studies = [entry for path in runs for entry in read_study(path)]
    finished = read_runs([path for path in runs if not _only_a_study(path)])
    if not finished and not studies:
        raise RunError("no runs to report on")
    if rows is None:
        measured = [run.path for run in finished if run.text("metric") is not None]
        rows = ledger(measured, threads=threads) if measured else []
    write_atomic(out, _page(finished, rows, studies, threads, title))


def write_page(run: Path) -> None:
    """Write a finished run's own `report.html`: curves, figures, recipe, lineage; nothing is timed for it."""
    write_report([run], run / "report.html", rows=(), title=run.absolute().name)


def _only_a_study(path: Path) -> bool:
    return path.name == STUDY or ((path / STUDY).is_file() and not (path / "result.json").exists())


def _page(
    runs: Sequence[Run],
    rows: Sequence[Row],
    studies: Sequence[dict[str, object]],
    threads: int | None,
    title: str,
) -> str:
    names = short_names([run.path for run in runs])
    sections = {
        "ledger": ("Ledger", _ledger_section(rows, names, threads) if rows else ""),
        "study": ("Seeds", study_section(studies) if studies else ""),
        "runs": ("Runs", "".join(run_article(run, names) for run in runs)),
    }
    shown = {name: (heading, body) for name, (heading, body) in sections.items() if body}
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, (heading, _) in shown.items())
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>{content}</section>'
        for name, (heading, content) in shown.items()
    )
    style = files("fenghuo.report").joinpath("page.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{text(title)}</title><style>{style}</style>"
    )
    navigation = f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>'
        f"<header><h1>{text(title)}</h1>{_machine(runs)}{navigation}</header>"
        f"<main>{tiles(rows, names)}{body}</main>"
        f"<footer><p>Made by <code>fenghuo report</code> from {len(runs)} run folders.</p></footer>"
        "</body></html>\n"
    )


def _machine(runs: Sequence[Run]) -> str:
    """The machines the runs were made on, when it is the same one said once."""
    said = []
    for run in runs:
        hardware = run.environment.get("hardware")
        if isinstance(hardware, dict):
            cores = hardware.get("cores")
            words = f"{hardware.get('processor')}, {cores} core{'' if cores == 1 else 's'}"
            if words not in said:
                said.append(words)
    return element("p", " · ".join(said), cls="muted small") if said else ""


def _ledger_section(rows: Sequence[Row], names: Mapping[Path, str], threads: int | None) -> str:
    lines = [[text(cell) for cell in cells(row)] for row in rows]
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), 1):
        path = Path(row.run)
        link = f'<a href="#{text(anchor(path))}">{text(names.get(path, row.run))}</a>'
        line[0] = f'<span class="key">{number}</span> {link}'
        line[1] = f'<span class="role">{line[1]}</span>'
        line[4] = line[4].replace("_", "_<wbr>")
    timed = any(row.p50_ms is not None for row in rows)
    note = element("p", footnote(threads), cls="muted small") if timed else ""
    return table(TITLES, lines, cls="cards") + note + tradeoff_figures(rows)
