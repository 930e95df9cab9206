"""Evaluation files of any layout → their rows' texts."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fenghuo.corpus.files import TextFile, expand, opened
from fenghuo.corpus.ngrams import units_of
from fenghuo.corpus.packed import PACKED
from fenghuo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fenghuo.corpus.recipe import EvaluationRecipe

_TAGGED = re.compile(r"\S+[ \t]+(?:O|[BIESMS]-?\S*)")
_TOKEN_UNITS = 3  # in the mean, at most; words of Chinese have less than two characters
_LOOKED_AT = 50  # lines, to tell tagged characters from a table


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """The texts of one row, labels among them: they are too short to match."""

    number: int  # line, from 1; of a JSON file that is one value, its text's number
    texts: tuple[str, ...]


def find_evaluation(given: Sequence[EvaluationRecipe]) -> list[tuple[str, EvaluationRecipe]]:
    """The files, each with its part of the recipe. Raises DataError for one that is missing or empty."""
    found = [(path, size, one) for one in given for path, size in expand(one.path)]
    for path, size, _ in found:
        if size == 0:
            raise DataError(f"{path}: the evaluation file is empty")
    return [(path, one) for path, _, one in found]


def read_evaluation(path: str, layout: str) -> Iterator[EvaluationRow]:
    """Every row of a file of evaluation data: text, tsv, csv, JSON, JSON lines, or tagged characters; .gz, .zst.

    Args:
        layout: see `EvaluationRecipe.format`.

    Raises:
        DataError: not UTF-8, or not of that layout.
    """
    stem, suffix = os.path.splitext(path.lower())
    packed = suffix if suffix in PACKED else ""
    kind = os.path.splitext(stem)[1] if packed else suffix
    with opened(TextFile(path, None, "text", packed, "lines", "")) as stream:
        try:
            text = stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            raise DataError(f"{path}: not UTF-8 at byte {problem.start}") from problem
    lines = text.split("\n")
    if layout == "auto":
        layout = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}.get(kind, "table")
        if layout == "table" and _is_tagged(lines):
            layout = "tagged"
    if layout == "json":
        yield from _json(path, text, lines)
    elif layout == "csv":
        csv.field_size_limit(1 << 28)
        reader = csv.reader(io.StringIO(text, newline=""))
        yield from (EvaluationRow(reader.line_num, tuple(row)) for row in reader if row)
    elif layout == "tagged":
        yield from _tagged(lines)
    else:
        rows = ((number, line.rstrip("\r")) for number, line in enumerate(lines, start=1))
        yield from (EvaluationRow(number, tuple(line.split("\t"))) for number, line in rows if line.strip())


def _is_tagged(lines: Sequence[str]) -> bool:
    asked = [line for line in lines[:_LOOKED_AT] if line.strip()]
    return bool(asked) and all(_TAGGED.fullmatch(line.rstrip()) for line in asked)


def _tagged(lines: Sequence[str]) -> Iterator[EvaluationRow]:
    first, tokens = 0, list[str]()
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            first = first if tokens else number
            tokens.append(line.split()[0])
        elif tokens:
            yield EvaluationRow(first, (" ".join(tokens),))  # a blank parts words, and no Chinese characters
            tokens = []


def _json(path: str, text: str, lines: Sequence[str]) -> Iterator[EvaluationRow]:
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    try:
        rows = [(number, json.loads(line)) for number, line in filled]
    except (ValueError, RecursionError):
        try:
            rows = list(enumerate(_leaves(json.loads(text)), start=1))
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{path}: neither JSON nor JSON lines: {problem}") from problem
    else:
        if len(rows) == 1:
            rows = list(enumerate(_leaves(rows[0][1]), start=1))
    yield from (EvaluationRow(number, tuple(_leaves(row))) for number, row in rows)


def _leaves(value: Any) -> Iterator[str]:
    """Every text in a JSON value; a list of tokens is one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list) and _are_tokens(value):
        yield " ".join(value)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)


def _are_tokens(value: list[Any]) -> bool:
    """Whether they are a text's words or characters, and not texts, such as the answers to choose from."""
    if not value or not all(isinstance(one, str) for one in value):
        return False
    most = _TOKEN_UNITS * len(value)
    return sum(map(len, value)) <= most or len(units_of([" ".join(value)]).hashes) <= most
