"""What a corpus's report says beyond counts: lengths, clusters of near duplicates, evaluation rows that were found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fenghuo.corpus.evaluation import find_evaluation, read_evaluation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fenghuo.corpus.contamination import Rows
    from fenghuo.corpus.format import Documents
    from fenghuo.corpus.places import Places
    from fenghuo.corpus.recipe import DecontaminateRecipe

_EXCERPT = 120  # characters
_SHOWN = 3  # rows of a file that are shown, those in the most documents


def add_lengths(lengths: dict[str, list[int]], found: Documents) -> None:
    """Count documents by their number of pieces and of sentences; place i counts 2^i … 2^(i + 1) - 1."""
    begins = np.cumsum(found.lengths) - found.lengths
    sentences = np.add.reduceat(found.sentence_start.astype(np.int64), begins)
    for name, values in (("pieces", found.lengths), ("sentences", sentences)):
        lengths[name] = _added(lengths.get(name, []), _by_powers(values))


def _by_powers(values: NDArray[np.int64]) -> list[int]:
    powers = np.frexp(np.maximum(values, 1).astype(np.float64))[1] - 1
    return [int(number) for number in np.bincount(powers)]


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    size = max(len(one), len(other))
    return [sum(part[i] for part in (one, other) if i < len(part)) for i in range(size)]


def all_lengths(written: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Documents by pieces and by sentences, of all that was written: {"pieces": {"1": 3, "2-3": 8, …}, …}."""
    total: dict[str, list[int]] = {}
    for part in written:
        for name, counts in part["lengths"].items():
            total[name] = _added(total.get(name, []), counts)
    return {
        name: {_range(place): number for place, number in enumerate(counts)} for name, counts in total.items()
    }


def _range(place: int) -> str:
    return "1" if place == 0 else f"{1 << place}-{(2 << place) - 1}"


def near_duplicates(
    found: dict[str, Any],
    shown: Sequence[Sequence[Sequence[int]]],
    reports: Sequence[dict[str, Any]],
    places: Places,
) -> dict[str, Any]:
    """The clusters' sizes, and the beginnings of some documents with their places; the first of each stays."""
    heads = {
        (part, head["document"]): {
            "file": head["source"],
            "line": places.line(part, head["range"], head["line"]),
            "text": head["text"],
        }
        for part, report in enumerate(reports)
        for head in report["keep first"]["shown"]
    }
    samples = [[heads[part, document] for part, document in cluster] for cluster in shown]
    return {**found, "samples": samples}


def contamination(
    recipe: DecontaminateRecipe, rows: Rows, reports: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was found of each evaluation file, and of each of its rows that was found.

    Returns:
        one record a file, and one a row: file, line, documents, text.
    """
    documents = np.zeros(len(rows.of), np.int64)
    of_file = np.zeros(len(rows.files), np.int64)
    for report in reports:
        for row, number in report["decontaminate"]["rows"]:
            documents[row] += number
        of_file += np.array(report["decontaminate"]["files"], np.int64)
    hit = list(_rows_found(recipe, documents))
    files = []
    for number, path in enumerate(rows.files):
        here = rows.of == number
        most = sorted((row for row in hit if row["file"] == path), key=lambda row: -row["documents"])
        files.append(
            {
                "file": path,
                "rows": int(here.sum()),
                "long_enough": int(rows.findable[here].sum()),
                "found": int((documents[here] > 0).sum()),
                "documents": int(of_file[number]),
                "samples": most[:_SHOWN],
            }
        )
    return files, hit


def _rows_found(recipe: DecontaminateRecipe, documents: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    number = 0
    for path, given in find_evaluation(recipe.against):
        for row in read_evaluation(path, given.format):
            if documents[number]:
                text = max(row.texts, key=len)[:_EXCERPT]
                yield {"file": path, "line": row.number, "documents": int(documents[number]), "text": text}
            number += 1


def summary(result: dict[str, Any]) -> list[str]:
    """A corpus's figures in a few lines, beside the number of documents and why others were left out."""
    said = []
    if result["mended"]:
        rules = (f"{count['count']:,} {rule.replace('_', ' ')}" for rule, count in result["mended"].items())
        said.append(f"mended: {', '.join(rules)}")
    said += [f"{name} a document: {_spread(counts)}" for name, counts in result["lengths"].items()]
    if near := result.get("near_duplicates"):
        largest = max(map(int, near["sizes"]), default=0)
        said.append(
            f"near duplicates: {near['clusters']:,} clusters"
            + (f" of 2 to {largest:,} documents" if largest else "")
        )
    for file in result.get("evaluation", []):
        if not file["found"]:
            continue
        said.append(
            f"{Path(file['file']).name}: {file['found']:,} of {file['long_enough']:,} rows that are long enough "
            f"(of {file['rows']:,}) were found, in {file['documents']:,} documents"
        )
    if "evaluation" in result and not any(file["found"] for file in result["evaluation"]):
        said.append("no row of the evaluation files was found")
    return said


def _spread(counts: dict[str, int]) -> str:
    """Where the middle of the documents lies, and the tenth at each end."""
    total, before = sum(counts.values()), 0
    found: dict[float, str] = {}
    for bounds, number in counts.items():
        before += number
        for share in (0.1, 0.5, 0.9):
            if before >= share * total:
                found.setdefault(share, bounds)
    tenth, half, most = (_last(found[share]) for share in (0.1, 0.5, 0.9))
    return f"a tenth has up to {tenth}, half up to {half}, nine tenths up to {most}"


def _last(bounds: str) -> str:
    return f"{int(bounds.rpartition('-')[2]):,}"


def as_lines(records: Sequence[dict[str, Any]]) -> str:
    """JSON lines."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
