"""Files of rows: every layout, and every way to get one wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tasks.bio import tags_of

from fenghuo.config import build_recipe
from fenghuo.errors import DataError
from fenghuo.finetune.recipe import FinetuneRecipe
from fenghuo.serve.rows import read_row
from fenghuo.tasks.read_data import read_rows
from fenghuo.tasks.recipe import DataRecipe, TaskRecipe, with_dataset

DATA = DataRecipe()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", 'label\ttext\n1\t很 好，"真的"\n0\t差\n'),
        ("a.tsv", '\ufefflabel\ttext\r\n1\t很 好，"真的"\r\n\r\n0\t差\r\n'),
        ("a.csv", 'text,label\n"很 好，""真的""",1\n差,0\n'),
        ("a.jsonl", '{"text": "很 好，\\"真的\\"", "label": 1}\n\n{"text": "差", "label": "0"}\n'),
    ],
)
def test_every_layout_gives_the_same_rows(tmp_path: Path, name: str, content: str) -> None:
    rows = read_rows(write(tmp_path, name, content), DATA, kind="classify")
    assert [(row.text, row.label) for row in rows] == [('很 好，"真的"', "1"), ("差", "0")]


def test_gzip_and_files_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, "b.txt.gz", gzip.compress("甲\t乙\t1\n丙\t丁\t0\n".encode(), mtime=0))
    rows = read_rows(path, DataRecipe(columns=["text", "text_pair", "label"]), kind="pair")
    assert [(row.text, row.text_pair, row.label) for row in rows] == [("甲", "乙", "1"), ("丙", "丁", "0")]
    assert rows[1].place.endswith("b.txt.gz:2")


CASES: list[tuple[str, str | bytes, str]] = [
    ("a.tsv", "", "empty"),
    ("a.tsv", " \n\n", "empty"),
    ("a.tsv", b"PK\x03\x04\0\0\0", "binary"),
    ("a.tsv", b"label\ttext\n1\t\xff\xfe\n", r"a.tsv:2: not UTF-8"),
    ("a.tsv", "label\tbody\n1\t好\n", r"a.tsv:2: no column 'text'.*label, body.*data.text"),
    ("a.tsv", "label\ttxt\n1\t好\n", r"Did you mean 'txt'"),
    ("a.tsv", "label\ttext\n1\t好\t多\n", r"a.tsv:2: 3 columns, where 2"),
    ("a.tsv", "label\ttext\n", "no rows"),
    ("a.tsv", "label\ttext\n\t好\n", r"a.tsv:2: the label is empty"),
    ("a.csv", 'text,label\n"好,1\n', r"a.csv:\d: not readable as CSV"),
    ("a.jsonl", '{"text": "好", "label": 1}\n{"text": \n', r"a.jsonl:2: not JSON"),
    ("a.jsonl", '["好", 1]\n', r"a.jsonl:1: a JSON object was wanted"),
    ("a.jsonl", '{"text": ["好"], "label": 1}\n', r"'text' holds list"),
    ("a.tsv.gz", b"\x1f\x8b not gzip", "not a whole gzip"),
    ("a.tsv.gz", gzip.compress(b"label\ttext\n" * 99, mtime=0)[:-9], "not a whole gzip"),
    ("a.tsv.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "not a whole gzip"),
    ("a.jsonl", '{"text": "好", "label": 1}\n' + '{"a":' * 100_000, r"a.jsonl:2: not usable JSON"),
    ("a.jsonl", f'{{"text": "好", "label": {"1" * 5000}}}', r"a.jsonl:1: not usable JSON"),
    ("a.tsv", "label\ttext\n1\t好\n1\t　 \n", r"a.tsv:3: the text is empty"),
    ("a.jsonl", '{"text": "", "label": 1}\n', r"a.jsonl:1: the text is empty"),
]


@pytest.mark.parametrize(("name", "content", "message"), CASES)
def test_a_bad_file_says_what_is_wrong_and_where(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, name, content), DATA, kind="classify")


def test_an_empty_second_text_or_an_empty_list_of_tokens_is_refused(tmp_path: Path) -> None:
    pair = write(tmp_path, "a.tsv", "text\ttext_pair\tlabel\n好\t\t1\n")
    with pytest.raises(DataError, match=r"a.tsv:2: the second text is empty"):
        read_rows(pair, DATA, kind="pair")
    with pytest.raises(DataError, match=r"a.jsonl:1: the text is empty"):
        read_rows(write(tmp_path, "a.jsonl", '{"tokens": [], "tags": []}'), DATA, kind="tag")


@pytest.mark.parametrize("text", ["", " \n", "　", "\u200b", "\0", "好"])
@pytest.mark.parametrize("kind", ["classify", "pair", "tag"])
def test_files_and_questions_have_one_rule_for_empty_texts(tmp_path: Path, kind: str, text: str) -> None:
    row = {"text": text, "text_pair": "好"} if kind == "pair" else {"text": text}
    path = write(tmp_path, "a.jsonl", json.dumps(row))
    refused = [_refuses(lambda: read_row(row, kind))]
    refused += [_refuses(lambda: read_rows(path, DATA, kind=kind, labelled=False))]
    assert refused[0] == refused[1]


def _refuses(read: Callable[[], object]) -> bool:
    try:
        read()
    except DataError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "content"), [("R.CSV", "text,label\n好,1\n"), ("R.Tsv.GZ", "text\tlabel\n好\t1\n")]
)
def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path, name: str, content: str) -> None:
    data = gzip.compress(content.encode(), mtime=0) if name.endswith("GZ") else content
    (row,) = read_rows(write(tmp_path, name, data), DATA, kind="classify")
    assert (row.text, row.label) == ("好", "1")
    conll = write(tmp_path, "R.TXT", "李 B-PER\n")
    assert read_rows(conll, DATA, kind="tag")[0].entities == ((0, 1, "PER"),)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([3, 0], r"a.jsonl:1: a tag is .* found 3; .*write the name"),
        ([None, "O"], r"a.jsonl:1: a tag is .* found None$"),
        (["PER", "O"], r"a.jsonl:1: a tag is .* found 'PER'"),
        (["B-", "O"], r"a.jsonl:1: a tag is .* found 'B-'"),
    ],
)
def test_tags_that_are_none_are_named(tmp_path: Path, tags: list[object], message: str) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps({"tokens": ["李", "在"], "ner_tags": tags}))
    with pytest.raises(DataError, match=message):
        read_rows(path, DATA, kind="tag")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", "x")
    with pytest.raises(DataError, match=r"no such file\. Did you mean 'train.tsv'"):
        read_rows(tmp_path / "trian.tsv", DATA, kind="classify")
    with pytest.raises(DataError, match="a folder"):
        read_rows(tmp_path, DATA, kind="classify")


def test_conll_becomes_text_and_character_spans(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.txt", "李 B-PER\n明 I-PER\n在 O\n北 B-LOC\n京 I-LOC\n\nNew B-LOC\nYork I-LOC\n好 O\n"
    )
    rows = read_rows(path, DATA, kind="tag")
    assert [(row.text, row.entities) for row in rows] == [
        ("李明在北京", ((0, 2, "PER"), (3, 5, "LOC"))),
        ("New York好", ((0, 8, "LOC"),)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [("李 B-PER\n明\n", r"a.txt:2: 'character TAG' was wanted"), ("李 PER\n", r"a.txt:1")],
)
def test_a_bad_conll_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, "a.txt", content), DATA, kind="tag")


@pytest.mark.parametrize(
    "entities",
    [
        [{"start": 1, "end": 9, "label": "X"}],
        [{"start": 0, "end": float("inf"), "label": "X"}],
        [{"start": 0, "end": 2, "label": "X"}] * 2,
        [{"end": 1}],
        3,
    ],
)
def test_entities_that_leave_the_text_or_overlap_are_refused(tmp_path: Path, entities: object) -> None:
    line = json.dumps({"text": "李明在", "entities": entities})
    with pytest.raises(DataError, match=r"a.jsonl:1: (an )?entity"):
        read_rows(write(tmp_path, "a.jsonl", line), DATA, kind="tag")


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from(["PER", "LOC"])), max_size=6))
def test_spans_survive_the_way_through_conll(
    tmp_path_factory: pytest.TempPathFactory, shape: list[tuple[int, int, str]]
) -> None:
    spans, at = [], 0
    for length, gap, label in shape:
        spans.append((at, at + length, label))
        at += length + gap
    text = "".join(chr(0x4E00 + i) for i in range(at + 1))
    tags = tags_of(spans, len(text))
    lines = "".join(f"{character} {tag}\n" for character, tag in zip(text, tags, strict=True))
    path = write(tmp_path_factory.mktemp("conll"), "a.conll", lines)
    (row,) = read_rows(path, DATA, kind="tag")
    assert row.text == text
    assert row.entities == tuple(spans)


def test_a_data_sets_name_stands_for_its_layout() -> None:
    values = with_dataset({"task": {"kind": "lcqmc", "max_length": 64}, "data": {"train": "a.txt"}})
    assert values["task"] == {"kind": "pair", "max_length": 64}
    assert values["data"] == {"columns": ["text", "text_pair", "label"], "train": "a.txt"}
    values = with_dataset({"task": "chnsenticorp", "data": {"text": "given"}})
    assert values == {"task": {"kind": "classify", "max_length": 256}, "data": {"text": "given"}}
    with pytest.raises(ValueError, match="Did you mean 'lcqmc'"):
        TaskRecipe(kind="lcqcm")


def test_a_resolved_recipe_says_what_the_name_stood_for() -> None:
    recipe = build_recipe(
        FinetuneRecipe, {"model": "nezha-base", "task": "chnsenticorp", "data": {"train": "a.tsv"}}
    )
    again = build_recipe(FinetuneRecipe, recipe.model_dump(mode="json"))
    assert again == recipe
    assert (again.task.kind, again.task.max_length, again.data.text) == ("classify", 256, "text_a")


def test_half_a_surrogate_pair_becomes_a_character_that_files_can_hold(tmp_path: Path) -> None:
    text = (
        r'{"label": "po\ud800s", "text": "很\ud800好\ud83d\ude00"}'
        "\n"
        r'{"label": "neg", "text": "\u5f88"}'
        "\n"
    )
    rows = read_rows(write(tmp_path, "rows.jsonl", text), DataRecipe(), kind="classify")
    assert [(row.label, row.text) for row in rows] == [("po\ufffds", "很\ufffd好😀"), ("neg", "很")]
