"""Documents that hold a piece of an evaluation row are found, and no others; files are read in any layout."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from tests.corpus.test_ngrams import slow_units

from fenghuo.corpus.contamination import Index, read_index
from fenghuo.corpus.evaluation import read_evaluation
from fenghuo.corpus.recipe import DecontaminateRecipe
from fenghuo.errors import DataError


def found(index: Index, texts: list[str]) -> set[tuple[int, int]]:
    documents, rows = index.search(texts)
    return set(zip(documents.tolist(), rows.tolist(), strict=True))


def slow_search(rows: list[str], texts: list[str], length: int, shortest: int) -> set[tuple[int, int]]:
    pairs = set()
    for document, text in enumerate(texts):
        here = slow_units(text)
        for row, given in enumerate(rows):
            wanted = slow_units(given)
            size = min(length, len(wanted))
            if size < shortest:
                continue
            asked = {tuple(wanted[i : i + size]) for i in range(len(wanted) - size + 1)}
            if asked & {tuple(here[i : i + size]) for i in range(len(here) - size + 1)}:
                pairs.add((document, row))
    return pairs


def test_it_finds_what_a_slow_search_finds() -> None:
    rng = random.Random(0)
    alphabet = ["一", "BERT", "，", "。"]
    rows = [" ".join(rng.choices(alphabet, k=rng.randrange(0, 12))) for _ in range(60)]
    texts = [" ".join(rng.choices(alphabet, k=rng.randrange(0, 40))) for _ in range(200)]
    index = Index(enumerate(rows), length=8, shortest=5)
    wanted = slow_search(rows, texts, 8, 5)
    assert found(index, texts) == wanted
    assert 200 < len(wanted) < 6_000
    assert index.rows.tolist() == [n for n, row in enumerate(rows) if len(slow_units(row)) >= 5]


def test_width_case_blanks_and_marks_do_not_hide_a_row() -> None:
    row = "使用BERT模型来预测下一个词的概率，这是预训练的方法。"
    index = Index([(0, row)], length=20, shortest=10)
    hidden = "据说：使用 Ｂｅｒｔ 模型，来预测下一个词的概率——这是「预训练」的方法吗？"
    assert found(index, ["别的话", hidden, row[:12]]) == {(1, 0)}


def test_short_rows_are_found_as_wholes() -> None:
    index = Index([(7, "开初婚未育证明怎么弄？"), (8, "你好")], length=20, shortest=10)
    asked = ["请问开初婚未育证明怎么弄", "开初婚未育证明怎么", "你好", "开初婚未育证明怎么弄"]
    assert found(index, asked) == {(0, 7), (3, 7)}
    assert index.rows.tolist() == [7]


def test_a_row_at_the_end_of_a_text_does_not_reach_into_the_next() -> None:
    index = Index([(0, "一二三四五六七八九十甲乙")], length=20, shortest=10)
    assert found(index, ["一二三四五六七八九十", "甲乙"]) == set()


def test_several_rows_with_the_same_words() -> None:
    row = "一二三四五六七八九十甲乙丙丁"
    index = Index([(0, row), (1, row), (2, row + "戊")], length=12, shortest=10)
    assert found(index, [row]) == {(0, 0), (0, 1), (0, 2)}


def test_without_rows_nothing_is_found() -> None:
    assert found(Index([], length=20, shortest=10), ["一二三四五六七八九十" * 3, ""]) == set()
    assert found(Index([(0, "一二三四五六七八九十")], length=20, shortest=10), []) == set()


TSV = "label\ttext_a\n1\t第一行的文字\n0\t第二行的文字\n"
CASES = [
    ("a.tsv", TSV, [(1, ("label", "text_a")), (2, ("1", "第一行的文字")), (3, ("0", "第二行的文字"))]),
    ("a.txt", "\ufeff一行\n\n两行\r\n", [(1, ("一行",)), (3, ("两行",))]),
    ("a.csv", 'x,y\n"一，\n二",1\n', [(1, ("x", "y")), (3, ("一，\n二", "1"))]),
    (
        "a.jsonl",
        '{"s": "甲", "n": 3}\n\n{"tokens": ["乙", "丙"], "d": {"e": ["x", 1]}}\n',
        [(1, ("甲",)), (3, ("乙 丙", "x"))],
    ),
    (
        "a.json",
        json.dumps({"data": [{"p": "甲", "q": [{"r": "乙"}]}]}, indent=1),
        [(1, ("甲",)), (2, ("乙",))],
    ),
    ("a.json", json.dumps(["甲", {"x": "乙"}]), [(1, ("甲",)), (2, ("乙",))]),
    (
        "a.json",
        json.dumps(["第一行的文字", "第二行的文字"]),
        [(1, ("第一行的文字",)), (2, ("第二行的文字",))],
    ),
    (
        "a.jsonl",
        json.dumps({"choices": ["一二三四五六七八九十甲乙", "丙丁戊己"]})
        + "\n"
        + json.dumps(["中华人民共和国", "，", "的", "首都"]),
        [(1, ("一二三四五六七八九十甲乙", "丙丁戊己")), (2, ("中华人民共和国 ， 的 首都",))],
    ),
    ("a.conll", "中 B-ORG\n国 I-ORG\n\n人 O\n", [(1, ("中 国",)), (4, ("人",))]),
    ("a.txt", "中 B-ORG\n国 I-ORG\n\n\n人 O", [(1, ("中 国",)), (5, ("人",))]),
]


@pytest.mark.parametrize(("name", "content", "wanted"), CASES, ids=[str(n) for n in range(len(CASES))])
@pytest.mark.parametrize("packed", [False, True])
def test_evaluation_files(
    name: str, content: str, wanted: list[tuple[int, tuple[str, ...]]], packed: bool, tmp_path: Path
) -> None:
    path = tmp_path / (name + ".gz" * packed)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    assert [(row.number, row.texts) for row in read_evaluation(str(path), "auto")] == wanted


def test_unreadable_evaluation_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{broken", encoding="utf-8")
    with pytest.raises(DataError, match="neither JSON nor JSON lines"):
        list(read_evaluation(str(path), "auto"))
    path.write_bytes("中文".encode("gb18030"))
    with pytest.raises(DataError, match="not UTF-8 at byte 0"):
        list(read_evaluation(str(path), "table"))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        read_index(DecontaminateRecipe(against=str(path)))
    with pytest.raises(DataError, match="no such file"):
        read_index(DecontaminateRecipe(against=str(tmp_path / "b.json")))


def test_rows_have_their_places(tmp_path: Path) -> None:
    one, other = tmp_path / "a.tsv", tmp_path / "b.txt"
    one.write_text("label\ttext\n1\t一二三四五六七八九十甲乙\n", encoding="utf-8")
    other.write_text("短\n\n一二三四五六七八九十\n", encoding="utf-8")
    index, rows = read_index(DecontaminateRecipe(against=[str(one), {"path": str(other)}]))
    assert rows.files == [str(one), str(other)]
    assert rows.of.tolist() == [0, 0, 1, 1]
    assert rows.lines.tolist() == [1, 2, 1, 3]
    assert rows.findable.tolist() == [False, True, False, True]
    assert found(index, ["前一二三四五六七八九十甲乙后"]) == {(0, 1), (0, 3)}


def test_an_answer_to_choose_from_is_found_alone(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    choices = ["一二三四五六七八九十甲乙", "丙丁戊己庚辛壬癸子丑寅卯"]
    tokens = ["丙丁", "戊", "己庚", "辛壬", "癸子丑寅"]
    path.write_text(json.dumps([{"choices": choices}, {"tokens": tokens}]), encoding="utf-8")
    index, _ = read_index(DecontaminateRecipe(against=str(path)))
    assert found(index, ["前" + choices[0] + "后", "前" + choices[1] + "后"]) == {(0, 0), (1, 1), (1, 2)}


def test_rows_in_traditional_characters_are_found_in_simplified_text(tmp_path: Path) -> None:
    pytest.importorskip("opencc")
    path = tmp_path / "dev.txt"
    path.write_text("被認為是將實驗引入心理學研究的人\n", encoding="utf-8")
    recipe = DecontaminateRecipe(against=str(path))
    text = ["他被认为是将实验引入心理学研究的人。"]
    assert found(read_index(recipe, simplified=True)[0], text) == {(0, 0)}
    assert found(read_index(recipe)[0], text) == set()
