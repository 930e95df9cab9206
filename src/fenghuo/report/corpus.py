"""A corpus on the page: counts, lengths, what each rule did, near duplicates, evaluation rows that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fenghuo.report.html import element, table, text

SHOWN = ("lengths", "mended", "removed", "near_duplicates", "evaluation")
"""Keys of the result that this section shows, so that nobody need show them again."""

Found = Mapping[str, Any]


def corpus_section(result: Found) -> str:
    """The figures of a corpus run as HTML; parts of which a result knows nothing are left away."""
    return "".join(
        [
            _counts(result),
            _lengths(result.get("lengths", {})),
            _rules(result),
            _near(result.get("near_duplicates")),
            _evaluation(result.get("evaluation", [])),
        ]
    )


def _counts(result: Found) -> str:
    read = result.get("read", {})
    shown = {
        "documents": (result.get("documents"), read.get("documents")),
        "characters": (result.get("characters"), read.get("characters")),
        "pieces": (result.get("pieces"), None),
        "words": (result.get("words"), None),
        "sentences": (result.get("sentences"), None),
        "held out": (result.get("heldout_documents"), None),
        "bad lines": (result.get("bad_lines"), None),
    }
    cells = "".join(
        f"<div><dt>{text(name)}</dt><dd>{value:,}</dd>{_of(of)}</div>"
        for name, (value, of) in shown.items()
        if isinstance(value, int)
    )
    return f'<dl class="counts">{cells}</dl>' if cells else ""


def _of(read: Any) -> str:
    return element("dd", f"of {read:,} read", cls="muted small") if isinstance(read, int) else ""


def _lengths(lengths: Mapping[str, Mapping[str, int]]) -> str:
    figures = "".join(_histogram(f"Documents by {name}", name, counts) for name, counts in lengths.items())
    return f'<div class="figures-grid">{figures}</div>' if figures else ""


def _histogram(title: str, unit: str, counts: Mapping[str, int], *, of: str = "documents") -> str:
    most = max(counts.values(), default=0) or 1
    filled = [place for place, number in enumerate(counts.values()) if number]
    shown = list(counts.items())[min(filled, default=0) : max(filled, default=-1) + 1]
    rows = [[text(bounds.replace("-", "–")), f"{number:,}", _bar(number / most)] for bounds, number in shown]
    bars = table([(unit, False), (of, True), ("", False)], rows, cls="bars")
    return f"<figure><figcaption>{text(title)}</figcaption>{bars}</figure>"


def _bar(share: float) -> str:
    return f'<span class="bar" style="width:{100 * share:.1f}%"></span>'


def _rules(result: Found) -> str:
    read = result.get("read", {}).get("documents") or 0
    rows = []
    for title, unit in (("removed", "documents"), ("mended", "")):
        for rule, count in result.get(title, {}).items():
            number = count["count"]
            # A rule for lines counts lines, so a share of the documents would be a lie.
            share = f"{number / read:.2%}" if (read and not rule.endswith("_lines")) or unit else ""
            rows.append(
                [
                    text(rule.replace("_", " ")),
                    f'<span class="role">{text(title)}</span>',
                    f"{number:,}",
                    share if read else "",
                    f"{count['characters']:,}",
                    _samples(count["samples"]),
                ]
            )
    titles = [
        ("rule", False),
        ("", False),
        ("count", True),
        ("of read", True),
        ("characters taken away or replaced", True),
        ("samples", False),
    ]
    return f"<h4>What the rules did</h4>{table(titles, rows)}" if rows else ""


def _samples(samples: Sequence[str]) -> str:
    lines = "".join(element("li", sample) for sample in samples)
    return f'<ul class="samples">{lines}</ul>' if lines else ""


def _near(found: Found | None) -> str:
    if found is None:
        return ""
    sizes = found.get("sizes", {})
    histogram = (
        _histogram("Clusters by size", "documents in it", _grouped(sizes), of="clusters") if sizes else ""
    )
    shown = "".join(
        "<li>" + "".join(_member(place == 0, one) for place, one in enumerate(cluster)) + "</li>"
        for cluster in found.get("samples", [])
    )
    said = f"{found.get('clusters', 0):,} clusters; the first document of each stays. Below are some of the largest."
    examples = f'<ol class="samples clusters">{shown}</ol>' if shown else ""
    return f"<h4>Near duplicates</h4>{element('p', said, cls='muted small')}{histogram}{examples}"


def _member(stays: bool, one: Found) -> str:
    place = f"{one.get('file')}:{one.get('line')}"
    what = "kept" if stays else "removed"
    return (
        f'<p><span class="role">{what}</span> {text(one.get("text"))} '
        f'<span class="muted small">{text(place)}</span></p>'
    )


def _grouped(sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes of 2 to 9 one by one, larger ones by powers of two."""
    found: dict[str, int] = {}
    for size, number in sorted((int(size), number) for size, number in sizes.items()):
        low = 1 << (size.bit_length() - 1)
        name = str(size) if size < 8 else f"{low}-{2 * low - 1}"
        found[name] = found.get(name, 0) + number
    return found


def _evaluation(files: Sequence[Found]) -> str:
    rows = [
        [
            text(file["file"]),
            f"{file['rows']:,}",
            f"{file['long_enough']:,}",
            f"{file['found']:,}",
            f"{file['documents']:,}",
            _samples(
                [
                    f"line {row['line']}, {row['documents']:,} documents: {row['text']}"
                    for row in file["samples"]
                ]
            ),
        ]
        for file in files
    ]
    titles = [
        ("evaluation file", False),
        ("rows", True),
        ("long enough", True),
        ("found", True),
        ("documents removed", True),
        ("rows in the most documents", False),
    ]
    return f"<h4>Evaluation rows in the text</h4>{table(titles, rows)}" if rows else ""
