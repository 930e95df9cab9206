"""Each rule does what it says and counts what it did."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.texts import SENTENCES
from tests.text.odd_text import odd_text

from fenghuo.corpus.clean import _ADDRESS_LINE, Cleaner, Count, add_up, fold
from fenghuo.corpus.recipe import CleanRecipe

ALL_OFF = {"controls": False, "blanks": False, "boilerplate": False, "min_characters": 0, "repetition": 0}


def clean(text: str, **values: object) -> tuple[str | None, dict[str, int]]:
    cleaner = Cleaner(CleanRecipe(**{"min_characters": 0, **values}))
    cleaned = cleaner(text)
    return cleaned, {rule: count.count for rule, count in {**cleaner.mended, **cleaner.left_out}.items()}


@pytest.mark.parametrize(
    ("text", "wanted", "counts"),
    [
        ("语言模型，很好。", "语言模型，很好。", {}),
        ("语\x00言\u200b模\ufeff型\ud83d", "语言模型", {"controls": 1}),
        ("\u3000\u3000一\t 二\xa0三  \r\n\r\n \n四", "一 二 三\n四", {"blanks": 1}),
        ("第一\u2028第二\x0b第三\x85第四", "第一\n第二\n第三\n第四", {}),
        ("正文\nhttps://a.cn/b?c=1\n-----\n又一段", "正文\n又一段", {"boilerplate_lines": 2}),
        ("见 https://a.cn 。", "见 https://a.cn 。", {}),
        ("写信到me@a.cn给我", "写信到me@a.cn给我", {}),
        ("me@a.cn, www.b.com", None, {"boilerplate_lines": 1, "nothing_left": 1}),
        ("***", None, {"boilerplate_lines": 1, "nothing_left": 1}),
        ("", None, {"nothing_left": 1}),
    ],
)
def test_rules(text: str, wanted: str | None, counts: dict[str, int]) -> None:
    found, counted = clean(text)
    assert found == wanted
    assert counted == counts


ADDRESS_LINE_PLAINLY = re.compile(
    r"(?:(?:(?:https?|ftp)://|www\.)[!-~]+|[\w.+-]+@[\w-]+\.[\w.-]+|[\s<>()（）:：,，;；、|-])+",
    re.ASCII | re.I,
)
ADDRESS_PARTS = [*"ab@.-+,:/w ，图", "www.", "http://", "a@b.c", "\n"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(ADDRESS_PARTS), max_size=10).map("".join))
def test_lines_of_addresses_are_those_of_the_plain_pattern(line: str) -> None:
    assert bool(_ADDRESS_LINE.fullmatch(line)) == bool(ADDRESS_LINE_PLAINLY.fullmatch(line))


@pytest.mark.parametrize("joined", ["http://a.cn/1.jpg,", "www.a.cn|", "me@a.cn-", "me@a.cn,", "-"])
def test_a_line_of_many_addresses_takes_no_longer_by_each(joined: str) -> None:
    """The plain pattern takes twice the time for one more."""
    assert clean("正文一行\n@" + joined * 40_000 + " 图", repetition=0)[1] == {}
    assert clean("正文一行\n" + (joined + " ") * 40_000, repetition=0)[0] == "正文一行"


def test_many_lines_of_boilerplate() -> None:
    lines = [f"https://a.cn/{number}" for number in range(20_000)]
    assert clean("\n".join([*lines, "正文一行", *lines]), repetition=0)[0] == "正文一行"


def test_nfkc_spares_chinese_punctuation() -> None:
    assert fold("ＡＢ１２，（ﬁ）：㎏！…％") == "AB12，（fi）：kg！…%"
    assert clean("ａ，\u2460", nfkc=True) == ("a，1", {"nfkc": 1})
    assert clean("ａ，\u2460")[0] == "ａ，\u2460"


@pytest.mark.parametrize(
    ("text", "rules", "wanted"),
    [
        ("重５㎏和㎏", {"nfkc": True}, ("nfkc", 3)),  # and grows by two
        ("e\u0301１，ﬁ", {"nfkc": True}, ("nfkc", 4)),
        ("語\u200b言\u200b", {}, ("controls", 2)),
        ("一\t\t 二", {}, ("blanks", 2)),
        ("一\t二", {}, ("blanks", 1)),
        ("甲&lt;乙", {"markup": True}, ("markup", 3)),
        ("正文\n-----", {}, ("boilerplate_lines", 5)),
    ],
)
def test_characters_taken_away_or_replaced(
    text: str, rules: dict[str, bool], wanted: tuple[str, int]
) -> None:
    cleaner = Cleaner(CleanRecipe(min_characters=0, **rules))
    cleaner(text)
    assert {rule: count.characters for rule, count in cleaner.mended.items()} == dict([wanted])


def test_characters_made_simple() -> None:
    pytest.importorskip("opencc")
    cleaner = Cleaner(CleanRecipe(simplified=True))
    assert cleaner("語言模型與後來的后") == "语言模型与后来的后"
    assert cleaner.mended["simplified"].characters == 4


def test_short_documents() -> None:
    assert clean("a b c\nd", min_characters=5) == (None, {"too_short": 1})
    assert clean("a b c\nd e", min_characters=5)[0] is not None


@pytest.mark.parametrize("unit", ["哈", "第一句话，又一句话。", "click here "])
def test_repetition(unit: str) -> None:
    assert clean(unit * 300)[1] == {"repetitive": 1} | ({"blanks": 1} if unit.endswith(" ") else {})
    assert clean(unit * 300, repetition=0)[0] is not None
    assert clean(unit * 2)[0] is not None


def test_prose_is_not_repetition() -> None:
    rng = random.Random(0)
    chinese = "".join(chr(rng.randint(0x4E00, 0x4E00 + 800)) for _ in range(3_000))
    assert clean(chinese)[0] == chinese
    sentences = "\n".join(rng.choice(SENTENCES) for _ in range(20))
    assert clean(sentences)[0] == sentences


@settings(max_examples=150, deadline=None)
@given(odd_text)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    cleaner = Cleaner(CleanRecipe(nfkc=True, min_characters=0))
    once = cleaner(text)
    if once is not None:
        assert Cleaner(CleanRecipe(nfkc=True, min_characters=0))(once) == once
        assert "  " not in once
        assert not any(unicodedata.category(c) == "Cc" for c in once if c != "\n")


@settings(max_examples=100, deadline=None)
@given(odd_text)
def test_nothing_happens_when_all_is_off(text: str) -> None:
    found = Cleaner(CleanRecipe(**ALL_OFF))(text)
    if text.isprintable() and text.strip():
        assert found == text


def test_samples_are_few_and_short() -> None:
    cleaner = Cleaner(CleanRecipe(min_characters=200))
    for number in range(10):
        cleaner(f"{number}" + "中" * 100)
    count = cleaner.left_out["too_short"]
    assert (count.count, count.characters) == (10, 1_010)
    assert [sample[0] for sample in count.samples] == ["0", "1", "2"]
    assert len(count.samples[0]) == 80


def test_counts_add_up() -> None:
    parts = [
        {"a": Count(2, 5, ["x", "y"]).to_json()},
        {"a": Count(2, 7, ["z", "w"]).to_json(), "b": Count().to_json()},
    ]
    assert add_up(parts) == {
        "a": {"count": 4, "characters": 12, "samples": ["x", "y", "z"]},
        "b": {"count": 0, "characters": 0, "samples": []},
    }


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        ("价格 12.50 | 13.80 | 99.00 | 12", {"letters": 0.5}, "few_letters"),
        ("价格是十二元五角，不贵", {"letters": 0.5}, None),
        ("价格 12.50 | 13.80 | 99.00 | 12", {}, None),
        ("see the README of 项目 for more", {"chinese": 0.3}, "little_chinese"),
        ("请看 README 项目的说明文档", {"chinese": 0.3}, None),
        ("首页\n登录\n首页\n登录\n首页\n登录\n正文在这里", {"repeated_lines": 0.3}, "repeated_lines"),
        ("首页\n登录\n首页\n登录\n首页\n登录\n正文在这里", {"repeated_lines": 0.7}, None),
        ("首页\n登录\n首页\n登录\n首页\n登录\n正文在这里", {}, None),
        ("一行\n二行\n三行", {"repeated_lines": 0.01}, None),
    ],
)
def test_rules_by_share(text: str, values: dict[str, float], reason: str | None) -> None:
    assert clean(text, **values)[1] == ({reason: 1} if reason else {})
