"""Files of labelled rows → rows, each with the place it came from. No torch."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fenghuo.errors import DataError, did_you_mean
from fenghuo.tasks.decode import is_blank, join_tokens, spans_of
from fenghuo.tasks.recipe import DataRecipe

Span = tuple[int, int, str]  # start, end (characters), label
SUFFIXES = {
    ".tsv": "tsv",
    ".txt": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".conll": "conll",
}
_LONE = re.compile("[\ud800-\udfff]")
_TAG = re.compile("O|[BI]-.+")


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled thing."""

    place: str
    """file:line, for messages."""
    text: str
    text_pair: str | None = None
    label: str | None = None
    entities: tuple[Span, ...] | None = None
    """Character spans in `text`; None where the row carries no tags."""


def read_rows(path: Path, data: DataRecipe, *, kind: str, labelled: bool = True) -> list[Row]:
    """Read a file of rows for a task kind.

    Args:
        labelled: whether a row without its label is an error (augmented and unlabelled files have none).

    Raises:
        DataError: missing, empty or binary file; missing column; a row of the wrong shape or without text, which
            no model would be asked about. Names file and line.
    """
    text = _read_text(path)
    layout: str = data.format
    if layout == "auto":
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        layout = "conll" if kind == "tag" and suffix == ".txt" else SUFFIXES.get(suffix, "tsv")
    if layout == "conll":
        rows = list(_conll(path, text))
    else:
        records = _json_lines(path, text) if layout == "jsonl" else _table(path, text, layout, data.columns)
        rows = [_row(path, number, record, data, kind, labelled) for number, record in records]
    rows = [row for row in rows if data.skip_label is None or row.label != data.skip_label]
    for row in rows:
        for name, given in (("text", row.text), ("second text", row.text_pair)):
            if given is not None and is_blank(given):
                raise DataError(f"{row.place}: the {name} is empty")
    if not rows:
        raise DataError(f"{path}: no rows in it")
    return rows


def _read_text(path: Path) -> str:
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file.{did_you_mean(path.name, siblings)}")
    if path.is_dir():
        raise DataError(f"{path}: a folder, where a file of rows was wanted")
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as problem:
            raise DataError(f"{path}: not a whole gzip file ({problem})") from None
    if not data.strip():
        raise DataError(f"{path}: the file is empty")
    if b"\0" in data[:65536]:
        raise DataError(f"{path}: a binary file (it holds NUL bytes), where UTF-8 text was wanted")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 ({problem.reason})") from None


def _table(
    path: Path, text: str, layout: str, columns: list[str] | None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Header and rows; tsv is taken without quoting, csv with."""
    if layout == "csv":
        csv.field_size_limit(1 << 28)
        lines: Iterator[tuple[int, list[str]]] = _csv_lines(path, text)
    else:
        lines = (
            (n, line.rstrip("\r").split("\t")) for n, line in enumerate(text.split("\n"), 1) if line.strip()
        )
    names = columns
    for number, fields in lines:
        if names is None:
            names = [field.strip() for field in fields]
            continue
        if len(fields) != len(names):
            raise DataError(
                f"{path}:{number}: {len(fields)} columns, where {len(names)} were expected ({', '.join(names)})"
            )
        yield number, dict(zip(names, fields, strict=True))


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as problem:
        raise DataError(f"{path}:{reader.line_num}: not readable as CSV ({problem})") from None


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as problem:
            raise DataError(f"{path}:{number}: not JSON ({problem.msg})") from None
        except (RecursionError, ValueError) as problem:  # nested too deep; a number of a million digits
            raise DataError(f"{path}:{number}: not usable JSON ({problem})") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: a JSON object was wanted, found {type(record).__name__}")
        yield number, _writable(record) if "\\u" in line else record


def _writable(record: dict[str, object]) -> dict[str, object]:
    """Half a surrogate pair, which JSON can spell and no file in UTF-8 can hold, becomes U+FFFD, in place."""
    text = json.dumps(record, ensure_ascii=False)
    mended = _LONE.sub("\ufffd", text)
    return record if mended == text else json.loads(mended)


def _row(
    path: Path,
    number: int,
    record: dict[str, str] | dict[str, object],
    data: DataRecipe,
    kind: str,
    labelled: bool,
) -> Row:
    place = f"{path}:{number}"

    def field(name: str, key: str) -> str:
        if name not in record:
            raise DataError(
                f"{place}: no column '{name}'.{did_you_mean(name, record)} "
                f"Found: {', '.join(record)}. Say which one it is with data.{key}"
            )
        value = record[name]
        if not isinstance(value, str | int | float):
            raise DataError(f"{place}: '{name}' holds {type(value).__name__}, where text was wanted")
        return str(value)

    if kind == "tag":
        return _tag_row(place, dict(record), data, labelled)
    text = field(data.text, "text")
    pair = field(data.text_pair, "text_pair") if kind == "pair" else None
    label = field(data.label, "label").strip() if labelled or data.label in record else None
    if labelled and not label:
        raise DataError(f"{place}: the label is empty")
    return Row(place, text, pair, label)


def _tag_row(place: str, record: dict[str, object], data: DataRecipe, labelled: bool) -> Row:
    """JSON: {"text", "entities": [{"start", "end", "label"}]} or {"tokens", "tags"}."""
    if "tokens" in record:
        tokens, tags = record["tokens"], record.get("tags", record.get("ner_tags"))
        if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
            raise DataError(f"{place}: 'tokens' must be a list of texts")
        if tags is None and labelled:
            raise DataError(f"{place}: no 'tags' beside the tokens")
        if tags is not None and (not isinstance(tags, list) or len(tags) != len(tokens)):
            raise DataError(f"{place}: tokens and tags differ in number")
        for tag in tags or ():
            if not isinstance(tag, str) or not _TAG.fullmatch(tag):
                raise DataError(
                    f"{place}: a tag is 'O', 'B-X' or 'I-X', found {tag!r:.60}{_number_hint(tag)}"
                )
        return _from_tokens(place, tokens, tags)
    text = record.get(data.text)
    if not isinstance(text, str):
        raise DataError(f"{place}: neither '{data.text}' nor 'tokens' in it. Found: {', '.join(record)}")
    given = record.get("entities")
    if given is None and labelled:
        raise DataError(f"{place}: no 'entities' in it. Found: {', '.join(record)}")
    return Row(place, text, entities=None if given is None else _spans(place, given, len(text)))


def _number_hint(tag: object) -> str:
    """Hugging Face data sets keep the names of `ner_tags` beside the file."""
    return "; a number's name is not in this file: write the name" if isinstance(tag, int) else ""


def _spans(place: str, given: object, length: int) -> tuple[Span, ...]:
    try:
        spans = sorted((int(e["start"]), int(e["end"]), str(e["label"])) for e in given)  # type: ignore[attr-defined]
    except (TypeError, KeyError, ValueError, OverflowError):
        raise DataError(f"{place}: an entity is {{'start', 'end', 'label'}}, found {given!r:.80}") from None
    before = 0
    for start, end, label in spans:
        if not before <= start < end <= length:
            raise DataError(
                f"{place}: entity {label} {start}-{end} overlaps another or leaves the text ({length})"
            )
        before = end
    return tuple(spans)


def _from_tokens(place: str, tokens: list[str], tags: list[str] | None) -> Row:
    """Tokens and BIO tags → one text and character spans in it."""
    text = join_tokens(tokens)
    if tags is None:
        return Row(place, text)
    starts, ends, at = [], [], 0
    for token in tokens:
        start = text.index(token, at)
        at = start + len(token)
        starts.append(start)
        ends.append(at)
    spans = tuple((starts[first], ends[last - 1], label) for first, last, label in spans_of(tags))
    return Row(place, text, entities=spans)


def _conll(path: Path, text: str) -> Iterator[Row]:
    tokens: list[str] = []
    tags: list[str] = []
    first = 1
    for number, line in enumerate([*text.split("\n"), ""], 1):
        line = line.rstrip("\r")
        if not line.strip():
            if tokens:
                yield _from_tokens(f"{path}:{first}", tokens, tags)
            tokens, tags, first = [], [], number + 1
            continue
        token, _, tag = line.rstrip().replace("\t", " ").rpartition(" ")
        if not token or not _TAG.fullmatch(tag):
            raise DataError(
                f"{path}:{number}: 'character TAG' was wanted (O, B-X or I-X), found {line!r:.60}"
            )
        tokens.append(token.split(" ")[0])
        tags.append(tag)
