"""Files → documents. A line that cannot be read is set aside with its place and the reason, never lost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from fenghuo.corpus.files import Range, TextFile, find_files, opened, parquet_file, whole
from fenghuo.corpus.recipe import InputRecipe
from fenghuo.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_EXCERPT = 80  # characters
_ROWS = 1_000  # of a parquet file, held at once
_BLOCK_BYTES = 1 << 18  # of lines, held at once


class Document(NamedTuple):  # made for every text: a frozen dataclass takes four times as long
    """One text and where it stood."""

    text: str
    source: str
    line: int  # its first, from 1; row in a parquet file. Counted from the range's begin.


@dataclass(frozen=True, slots=True)
class BadLine:
    """What could not be read."""

    source: str
    line: int  # as in `Document`
    reason: str
    excerpt: str


def read_documents(
    inputs: str | InputRecipe | Sequence[str | InputRecipe],
    *,
    set_aside: Callable[[BadLine], None] | None = None,
) -> Iterator[Document]:
    """Every document of the inputs, one at a time, in order.

    Args:
        inputs: paths (see `InputRecipe.path`) or whole inputs.
        set_aside: called with each line that cannot be read; by default they are counted, and the number said.

    Raises:
        DataError: a missing path, an empty file or folder, a binary file, a text key that is not there.
    """
    given = [inputs] if isinstance(inputs, str | InputRecipe) else inputs
    files = find_files([InputRecipe(path=one) if isinstance(one, str) else one for one in given])
    bad = 0
    first: BadLine | None = None

    def count(line: BadLine) -> None:
        nonlocal bad, first
        bad, first = bad + 1, first or line

    for file in files:
        yield from read_range(whole(file), set_aside or count)
    if first:
        say(f"{bad:,} lines could not be read; the first: {first.source}:{first.line}: {first.reason}")


def read_range(part: Range, set_aside: Callable[[BadLine], None]) -> Iterator[Document]:
    """The documents of a part of a file; its own lines are counted from 1. Blank lines are no documents."""
    if part.file.kind == "parquet":
        return _rows(part, set_aside)
    if part.file.kind == "jsonl":
        return _objects(part, set_aside)
    if part.file.format == "paragraphs":
        return _paragraphs(part, set_aside)
    return (Document(text, part.file.path, line) for line, text in _lines(part, set_aside) if text.strip())


def count_lines(part: Range) -> int:
    """Lines (or rows) of a part, to number those of the next one."""
    if part.file.kind == "parquet":
        with parquet_file(part.file) as found:
            return sum(found.metadata.row_group(group).num_rows for group in range(part.begin, part.end))
    with opened(part.file) as stream:
        return sum(1 for _ in _raw_lines(stream, part))


def _lines(part: Range, set_aside: Callable[[BadLine], None]) -> Iterator[tuple[int, str]]:
    with opened(part.file) as stream:
        for number, raw in enumerate(_raw_lines(stream, part), start=1):
            try:
                yield number, raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as problem:
                shown = raw[:_EXCERPT].decode("utf-8", "replace")
                reason = f"not UTF-8 at byte {problem.start} of the line"
                set_aside(BadLine(part.file.path, number, reason, shown))


def _raw_lines(stream: IO[bytes], part: Range) -> Iterator[bytes]:
    """The part's lines; a stream's end is its own: how long it will be is not known beforehand."""
    if part.begin:
        stream.seek(part.begin)
        return chain.from_iterable(_blocks(stream, part))
    blocks = _blocks(stream, part)
    first = next(blocks, [b""])
    return chain(
        [first[0].removeprefix(b"\xef\xbb\xbf")] if first[0] else [], first[1:], chain.from_iterable(blocks)
    )


def _blocks(stream: IO[bytes], part: Range) -> Iterator[list[bytes]]:
    """Many lines at a time, up to the line that passes the part's end."""
    left = part.end - part.begin
    while part.file.is_stream or left > 0:
        wanted = _BLOCK_BYTES if part.file.is_stream else min(left, _BLOCK_BYTES)
        # `readlines` ends with the line that goes beyond its hint, and takes 0 for no hint at all.
        lines = stream.readlines(wanted - 1) if wanted > 1 else [stream.readline()]
        if not any(lines[:1]):
            return
        left -= sum(map(len, lines))
        yield lines


def _paragraphs(part: Range, set_aside: Callable[[BadLine], None]) -> Iterator[Document]:
    first, lines = 0, list[str]()
    for number, line in _lines(part, set_aside):
        if line.strip():
            first = first if lines else number
            lines.append(line)
        elif lines:
            yield Document("\n".join(lines), part.file.path, first)
            lines = []
    if lines:
        yield Document("\n".join(lines), part.file.path, first)


def _objects(part: Range, set_aside: Callable[[BadLine], None]) -> Iterator[Document]:
    for number, line in _lines(part, set_aside):
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)
        except (ValueError, RecursionError) as problem:
            set_aside(BadLine(part.file.path, number, f"not JSON: {problem}", line[:_EXCERPT]))
            continue
        yield from _text_of(found, part.file, number, line, set_aside)


def _text_of(
    found: Any, file: TextFile, number: int, line: str, set_aside: Callable[[BadLine], None]
) -> Iterator[Document]:
    if not isinstance(found, dict):
        reason = "not a JSON object"
    elif file.text_key not in found:
        reason = f"no key '{file.text_key}'"
    elif not isinstance(text := found[file.text_key], str):
        reason = f"key '{file.text_key}' holds no text"
    else:
        if text.strip():
            yield Document(text, file.path, number)
        return
    set_aside(BadLine(file.path, number, reason, line[:_EXCERPT]))


def _rows(part: Range, set_aside: Callable[[BadLine], None]) -> Iterator[Document]:
    number = 0
    groups, key = range(part.begin, part.end), part.file.text_key
    with parquet_file(part.file) as found:
        for batch in found.iter_batches(batch_size=_ROWS, row_groups=groups, columns=[key]):
            for value in batch.column(0):
                number += 1
                try:
                    text = value.as_py()
                except UnicodeDecodeError:
                    set_aside(BadLine(part.file.path, number, "not UTF-8", ""))
                    continue
                if not isinstance(text, str):
                    shown = str(text)[:_EXCERPT]
                    set_aside(BadLine(part.file.path, number, f"column '{key}' holds no text", shown))
                elif text.strip():
                    yield Document(text, part.file.path, number)
