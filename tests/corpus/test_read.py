"""Documents come out of every kind of file; what cannot be read is named, with its place."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.corpus.files import cut_into_parts, find_files, whole
from fenghuo.corpus.read import BadLine, count_lines, read_documents, read_range
from fenghuo.corpus.recipe import InputRecipe
from fenghuo.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["语言模型。", "第二行 two", "第三行"]


def texts(*inputs: str | InputRecipe) -> list[str]:
    return [document.text for document in read_documents(list(inputs))]


def bad_lines(one: str | InputRecipe) -> tuple[list[str], list[BadLine]]:
    found: list[BadLine] = []
    return [document.text for document in read_documents(one, set_aside=found.append)], found


def write(path: Path, data: bytes | str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet(path: Path, column: pa.Array, name: str = "text", group: int = 2) -> str:
    pq.write_table(pa.table({"id": list(range(len(column))), name: column}), path, row_group_size=group)
    return str(path)


def test_every_kind_of_file(tmp_path: Path) -> None:
    lines = "\n".join(TEXTS)
    rows = jsonl(*({"text": text, "id": 1} for text in TEXTS))
    made = [
        write(tmp_path / "a.txt", lines),
        write(tmp_path / "b.txt", "\ufeff" + lines.replace("\n", "\r\n") + "\r\n"),
        write(tmp_path / "c.txt.gz", gzip.compress(lines.encode()[:9]) + gzip.compress(lines.encode()[9:])),
        write(tmp_path / "d.txt.zst", zstandard.compress(lines.encode())),
        write(tmp_path / "e.jsonl", rows),
        write(tmp_path / "f.jsonl.gz", gzip.compress(rows.encode())),
        write(tmp_path / "g", lines),
        parquet(tmp_path / "h.parquet", pa.array(TEXTS)),
        parquet(tmp_path / "i.parquet", pa.array(TEXTS).dictionary_encode()),
    ]
    for path in made:
        assert texts(path) == TEXTS, path


def test_places_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "一\n\n \n二\n三\n")
    assert [(one.text, one.source, one.line) for one in read_documents(path)] == [
        ("一", path, 1),
        ("二", path, 4),
        ("三", path, 5),
    ]
    paragraphs = InputRecipe(path=path, format="paragraphs")
    assert [(one.text, one.line) for one in read_documents(paragraphs)] == [("一", 1), ("二\n三", 4)]


def test_folders_globs_and_urls(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "二")
    write(tmp_path / "a" / "x.jsonl", jsonl({"text": "一"}))
    write(tmp_path / "empty.txt", "")
    write(tmp_path / ".hidden.txt", "不")
    write(tmp_path / "image.png", b"\x00\x01")
    assert texts(str(tmp_path)) == ["一", "二"]
    assert texts(str(tmp_path / "*.txt")) == ["二"]
    assert texts(str(tmp_path / "**" / "*.jsonl"), str(tmp_path / "b.txt")) == ["一", "二"]
    assert texts(f"file://{tmp_path}/b.txt") == ["二"]
    assert texts(f"file://{tmp_path}/*.txt") == ["二"]


def test_a_file_in_memory_by_url() -> None:
    import fsspec

    with fsspec.open("memory://corpus/a.txt.gz", "wb") as file:
        file.write(gzip.compress("一\n二".encode()))
    assert texts("memory://corpus") == ["一", "二"]


def test_another_key(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl({"content": "一"}))
    assert texts(InputRecipe(path=path, text_key="content")) == ["一"]
    column = parquet(tmp_path / "a.parquet", pa.array(["二"]), "content")
    assert texts(InputRecipe(path=column, text_key="content")) == ["二"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.txt", None, "no such file. Did you mean 'messing.txt'?"),
        ("empty.txt", b"", "the file is empty"),
        ("noise.txt", b"\x00\x01\x02" * 400, "a binary file, or UTF-16"),
        ("utf16.txt", "text in UTF-16".encode("utf-16"), "a binary file, or UTF-16"),
        ("gbk.txt", ("中文文本，不是国际码。\n" * 20).encode("gb18030"), "it looks like GB18030"),
        ("packed.txt", zstandard.compress(bytes(range(1, 256)) * 40), "it looks like binary"),
        ("torn.txt.gz", gzip.compress(b"text" * 1000, mtime=0)[:-12], "damaged .gz file"),
        ("not.txt.gz", b"plain text", "damaged .gz file"),
        ("not.txt.zst", b"plain text", "damaged .zst file"),
        (
            "wrong.jsonl",
            b'{"txt": "a", "id": 1}\n',
            "no key 'text' (text_key). Did you mean 'txt'?\n  there: id, txt",
        ),
        (
            "array.json",
            b'[\n{"text": "a"}\n]\n'.replace(b'{"text": "a"}', b"1"),
            "one object a line is needed",
        ),
        ("not.parquet", b"PAR2....", "not a parquet file"),
    ],
)
def test_bad_input_is_named(name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    write(tmp_path / "messing.txt", "x")
    path = str(tmp_path / name) if data is None else write(tmp_path / name, data)
    with pytest.raises(DataError) as caught:
        texts(path)
    assert str(caught.value).startswith(path)
    assert message in str(caught.value)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="the folder holds no"):
        texts(str(tmp_path / "none"))
    write(tmp_path / "blank" / "a.txt", "")
    write(tmp_path / "blank" / "b.txt", "")
    with pytest.raises(DataError, match="all files are empty"):
        texts(str(tmp_path / "blank"))
    with pytest.raises(DataError, match="no file matches"):
        texts(str(tmp_path / "*.csv"))
    column = parquet(tmp_path / "a.parquet", pa.array(["一"]), "body")
    with pytest.raises(DataError, match="no column 'text'"):
        texts(column)


def test_bad_lines_are_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "第一行很长很长很长\n".encode() + b"\xff\xfe\n" + "第三行\n".encode())
    found, bad = bad_lines(path)
    assert found == ["第一行很长很长很长", "第三行"]
    assert bad == [BadLine(path, 2, "not UTF-8 at byte 0 of the line", "\ufffd\ufffd\n")]


def test_bad_rows_are_set_aside(tmp_path: Path) -> None:
    rows = [
        b'{"text": "one"}',
        b"{",
        b"[1]",
        b'{"text": 3}',
        b'{"other": "x"}',
        b"",
        b'{"text": " "}',
        b'{"text": "two"}',
    ]
    path = write(tmp_path / "a.jsonl", b"\n".join(rows) + b'\n{"text": "\xff"}\n{"text": "\\ud83d"}')
    found, bad = bad_lines(path)
    assert found == ["one", "two", "\ud83d"]
    assert [(one.line, one.reason.split(":")[0]) for one in bad] == [
        (2, "not JSON"),
        (3, "not a JSON object"),
        (4, "key 'text' holds no text"),
        (5, "no key 'text'"),
        (9, "not UTF-8 at byte 10 of the line"),
    ]
    column = pa.array([b"one", None, b"\xff", b"two"]).view(pa.string())
    found, bad = bad_lines(parquet(tmp_path / "a.parquet", column))
    assert found == ["one", "two"]
    assert [(one.line, one.reason) for one in bad] == [(2, "column 'text' holds no text"), (3, "not UTF-8")]


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl({"text": "中" * 3_400_000}, {"text": "短"}))
    assert [len(text) for text in texts(path)] == [3_400_000, 1]


def test_frames_odd_characters_and_torn_ends(tmp_path: Path) -> None:
    frames = zstandard.compress(("一\n" * 99 + "二").encode()) + zstandard.compress(
        "三\x00\u200b四\r\n五".encode()
    )
    assert texts(write(tmp_path / "a.txt.zst", frames)) == ["一"] * 99 + ["二三\x00\u200b四", "五"]
    for number, data in enumerate((frames[:-4], gzip.compress(("中文\n" * 99_999).encode())[:-999])):
        path = write(tmp_path / f"torn{number}.txt.{('zst', 'gz')[number]}", data)
        with pytest.raises(DataError, match="damaged"):
            texts(path)


@pytest.mark.parametrize("format", ["lines", "paragraphs"])
def test_blocks_of_lines_end_where_parts_do(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "\n".join("中" * (number % 7) for number in range(60)) + "\n\nend"
    path = write(tmp_path / "a.txt", "\ufeff" + lines)
    wanted = texts(InputRecipe(path=path, format=format))
    for block in (1, 2, 9, 64):
        monkeypatch.setattr("fenghuo.corpus.read._BLOCK_BYTES", block)
        assert texts(InputRecipe(path=path, format=format)) == wanted


def test_a_file_that_is_shorter_than_its_plan_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "一\n二\n")
    part = whole(find_files([InputRecipe(path=path)])[0])
    write(tmp_path / "a.txt", "一\n")
    assert [one.text for one in read_range(part, print)] == ["一"]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab中。 \r"), max_size=6), min_size=1, max_size=30),
    st.integers(1, 40),
    st.sampled_from(["lines", "paragraphs"]),
)
def test_parts_hold_every_document_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], part_bytes: int, format: str
) -> None:
    path = tmp_path_factory.mktemp("parts") / "a.txt"
    path.write_bytes("\n".join([*lines, "end"]).encode())
    [file] = find_files([InputRecipe(path=str(path), format=format)])
    parts = cut_into_parts([file], part_bytes / 1e6)
    pieces = [one.text for group in parts for part in group for one in read_range(part, print)]
    assert pieces == [one.text for one in read_range(whole(file), print)]
    assert sum(count_lines(part) for group in parts for part in group) == count_lines(whole(file))


def test_small_files_share_a_part(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / f"{number}.txt", "0123456789\n" * 3)
    parquet(tmp_path / "z.parquet", pa.array(TEXTS * 2))
    parts = cut_into_parts(find_files([InputRecipe(path=str(tmp_path))]), 100 / 1e6)
    assert [len(group) for group in parts][:2] == [4, 4]
    found = [one.text for group in parts for part in group for one in read_range(part, print)]
    assert found == ["0123456789"] * 30 + TEXTS * 2
