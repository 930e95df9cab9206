"""Where text lies: finding files, looking into them before the work starts, and cutting them into parts."""

from __future__ import annotations

import codecs
import glob
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from fenghuo.corpus.packed import PACKED, unpacked
from fenghuo.corpus.urls import expand_url, is_url, open_url
from fenghuo.errors import DataError, did_you_mean, import_extra

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fenghuo.corpus.recipe import InputRecipe

_KINDS: dict[str, Literal["text", "jsonl", "parquet"]] = {
    **dict.fromkeys((".txt", ".text"), "text"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    ".parquet": "parquet",
}
_HEAD_BYTES = 1 << 16
_LEAST_PART_BYTES, _MOST_PART_BYTES = 10**6, 64 * 10**6  # unless a recipe says otherwise
_GUESSED_BYTES = _MOST_PART_BYTES  # of a file of which nobody tells how long it is, so that it is one part


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file of documents."""

    path: str  # or URL
    size_bytes: int | None  # None: can only be read from its beginning to its end (see `urls.expand_url`)
    kind: Literal["text", "jsonl", "parquet"]
    packed: str  # "", ".gz", ".zst"
    format: Literal["lines", "paragraphs"]
    text_key: str

    @property
    def is_stream(self) -> bool:
        """Whether only reading it says where it ends, so that it is not cut."""
        return bool(self.packed) or self.size_bytes is None


@dataclass(frozen=True, slots=True)
class Range:
    """Neighbouring whole documents of one file."""

    file: TextFile
    begin: int  # byte; row group in a parquet file
    end: int
    size_bytes: int  # of text, about


def find_files(inputs: Iterable[InputRecipe]) -> list[TextFile]:
    """The files of all inputs, those of one input by name.

    Raises:
        DataError: a missing path, an empty file or folder, a binary file, a text key that is not there.
    """
    found = []
    for one in inputs:
        given = expand(one.path)
        files = [_text_file(path, size, one) for path, size in given if size != 0 or len(given) == 1]
        if all(file.size_bytes == 0 for file in files):
            raise DataError(
                f"{one.path}: " + ("the file is empty" if len(given) == 1 else "all files are empty")
            )
        for file in files:
            _inspect(file)
        found += files
    return found


def cut_into_parts(files: Sequence[TextFile], input_mb: float | None) -> list[tuple[Range, ...]]:
    """All files in order, as parts of about `input_mb` (see `ShardsRecipe`), cut between documents.

    The parts depend on the files alone: not on who will do the work.
    """
    total = sum(whole(file).size_bytes for file in files)
    even = min(max(total // 16, _LEAST_PART_BYTES), _MOST_PART_BYTES)
    part_bytes = round(input_mb * 1e6) if input_mb else even
    parts: list[tuple[Range, ...]] = []
    waiting: list[Range] = []
    for file in files:
        for one in ranges_of(file, part_bytes):
            waiting.append(one)
            if sum(part.size_bytes for part in waiting) >= part_bytes:
                parts.append(tuple(waiting))
                waiting = []
    return [*parts, tuple(waiting)] if waiting else parts


def ranges_of(file: TextFile, part_bytes: int) -> Iterator[Range]:
    """The file cut between documents; a packed one is whole, a parquet file goes by row groups."""
    all_of_it = whole(file)
    if file.kind == "parquet":
        with parquet_file(file) as found:
            meta = found.metadata
        for group in range(meta.num_row_groups):
            yield Range(file, group, group + 1, meta.row_group(group).total_byte_size)
    elif file.is_stream or all_of_it.end <= part_bytes:
        yield all_of_it
    else:
        with opened(file) as stream:
            begin = 0
            while begin < all_of_it.end:
                end = _document_edge(stream, begin + part_bytes, all_of_it)
                yield Range(file, begin, end, end - begin)
                begin = end


def whole(file: TextFile) -> Range:
    """The file uncut."""
    size_bytes = _GUESSED_BYTES if file.size_bytes is None else file.size_bytes
    if file.kind == "parquet":
        with parquet_file(file) as found:
            return Range(file, 0, found.metadata.num_row_groups, size_bytes)
    return Range(file, 0, size_bytes, size_bytes * PACKED.get(file.packed, 1))


def amount(files: Sequence[TextFile], parts: Sequence[tuple[Range, ...]]) -> str:
    """How much there is to do, as a line."""
    total = sum(part.size_bytes for group in parts for part in group)
    unknown = sum(file.size_bytes is None for file in files)
    guess = f"; {unknown:,} files of unknown size count as {_GUESSED_BYTES / 1e6:.0f} MB" if unknown else ""
    return f"{len(files):,} files, about {total / 1e6:,.1f} MB of text, in {len(parts):,} parts{guess}"


@contextmanager
def opened(file: TextFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked. Raises DataError, also while it is read, where the packing is damaged."""
    with _raw(file) as raw, unpacked(raw, file.packed, file.path) as stream:
        yield stream


def expand(path: str) -> list[tuple[str, int | None]]:
    """(path, bytes) of each file that a path, folder, glob or URL stands for. Raises DataError where there is none.

    Bytes are None where only a URL's server knows them: see `urls.expand_url`.
    """
    if is_url(path):
        return expand_url(path, _is_text)
    where = Path(path)
    if where.is_dir():
        names = sorted(str(one) for one in where.rglob("*") if one.is_file() and _is_text(one.name))
        if not names:
            raise DataError(f"{path}: the folder holds no {', '.join(_KINDS)} file")
    elif glob.has_magic(path) and not where.exists():
        names = sorted(one for one in glob.glob(path, recursive=True) if Path(one).is_file())
        if not names:
            raise DataError(f"{path}: no file matches")
    elif where.exists():
        names = [path]
    else:
        beside = [one.name for one in where.parent.iterdir()] if where.parent.is_dir() else []
        raise DataError(f"{path}: no such file.{did_you_mean(where.name, beside)}")
    return [(name, os.stat(name).st_size) for name in names]


def _is_text(name: str) -> bool:
    stem, suffix = os.path.splitext(name.lower())
    return not name.startswith(".") and (os.path.splitext(stem)[1] if suffix in PACKED else suffix) in _KINDS


def _text_file(path: str, size: int | None, given: InputRecipe) -> TextFile:
    stem, suffix = os.path.splitext(path.lower())
    packed = suffix if suffix in PACKED else ""
    kind = _KINDS.get(os.path.splitext(stem)[1] if packed else suffix, "text")
    if kind == "parquet" and packed:
        raise DataError(f"{path}: parquet files are packed inside; unpack this one")
    return TextFile(path, size, kind, packed, given.format, given.text_key)


def _raw(file: TextFile) -> IO[bytes]:
    if is_url(file.path):
        return open_url(file.path, file.size_bytes)
    try:
        return open(file.path, "rb")
    except OSError as problem:
        raise DataError(f"{file.path}: {problem.strerror or problem}") from problem


def _inspect(file: TextFile) -> None:
    """Raise a DataError for what is plainly not the text it should be, before hours go by."""
    if file.kind == "parquet":
        with parquet_file(file) as found:
            columns = found.schema_arrow.names
        if file.text_key not in columns:
            raise DataError(_no_key(file, columns))
        return
    with opened(file) as stream:
        head = stream.read(_HEAD_BYTES)
    if head.count(0) > len(head) / 100:
        raise DataError(f"{file.path}: a binary file, or UTF-16: UTF-8 text is needed")
    lines = head.split(b"\n")
    unread = [line for line in lines if not _decodes(line, "utf-8")]
    if sum(map(len, unread)) > 0.8 * len(head):
        hint = "GB18030 (iconv -f GB18030 -t UTF-8)" if _decodes(head, "gb18030") else "binary"
        raise DataError(f"{file.path}: not UTF-8 text; it looks like {hint}")
    if file.kind == "jsonl":
        _inspect_json(file, lines[:-1] if len(head) == _HEAD_BYTES else lines)


def _inspect_json(file: TextFile, lines: Sequence[bytes]) -> None:
    rows = []
    asked = [line for line in lines if line.strip()][:20]
    for line in asked:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    keys = {key for row in rows if isinstance(row, dict) for key in row}
    if asked and not keys:  # a first line longer than the head says nothing
        raise DataError(f"{file.path}: its first lines are no JSON objects; one object a line is needed")
    if asked and file.text_key not in keys:
        raise DataError(_no_key(file, keys))


def _no_key(file: TextFile, keys: Iterable[str]) -> str:
    known = sorted(keys)
    name = "column" if file.kind == "parquet" else "key"
    hint = did_you_mean(file.text_key, known)
    return f"{file.path}: no {name} '{file.text_key}' (text_key).{hint}\n  there: {', '.join(known)}"


def _decodes(data: bytes, encoding: str) -> bool:
    """Whether it is such text; a character may be cut off at the end."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def parquet_file(file: TextFile) -> Iterator[Any]:
    """It, opened: a `pyarrow.parquet.ParquetFile`. Raises DataError."""
    parquet = import_extra("pyarrow.parquet", "train")
    with _raw(file) as raw:
        try:
            found = parquet.ParquetFile(raw)
        except import_extra("pyarrow", "train").ArrowInvalid as problem:
            raise DataError(f"{file.path}: not a parquet file: {problem}") from problem
        yield found


def _document_edge(stream: IO[bytes], at: int, whole: Range) -> int:
    """The first place from `at` on where a document begins, or the file's end."""
    if at >= whole.end:
        return whole.end
    stream.seek(at - 1)
    stream.readline()
    if whole.file.kind == "text" and whole.file.format == "paragraphs":
        while (line := stream.readline()) and line.strip():
            pass
        while (here := stream.tell()) < whole.end and not stream.readline().strip():
            pass
        return here
    return stream.tell()
