"""Inline Markdown and HTML go, words and code stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.corpus.clean import Cleaner
from fenghuo.corpus.markup import without_markup
from fenghuo.corpus.recipe import CleanRecipe


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("自己的域名 **linux.cn** 建立", "自己的域名 linux.cn 建立"),
        ("无限期停止更新。**", "无限期停止更新。"),
        ("***粗斜***，*斜*，~~删~~", "粗斜，斜，删"),
        ("2**8 = 256, a*b*c, 5 * 3 * 2", "2**8 = 256, a*b*c, 5 * 3 * 2"),
        ("一词（`#!`），宏`container_of`", "一词（#!），宏container_of"),
        ("`**kwargs` 和 `<p>`、`a\\_b`", "**kwargs 和 <p>、a\\_b"),
        ("``两个``", "两个"),
        ("```python\nx = 1\n```\n后", "\nx = 1\n\n后"),
        ("![图](http://a.cn/b_(c).png '题') 与 [文](x.html)", "图 与 文"),
        ("[Conky] [8]很好", "Conky很好"),
        ("下载[6]。注[^1]，before[6].rules, a[0]", "下载。注，before[6].rules, a[0]"),
        ("<ruby>鲸鱼荚<rt>Pod of Whales</rt></ruby>", "鲸鱼荚（Pod of Whales）"),
        ('<p align="left">段<br/>落</p>，<name> 与 <script>', "段落，<name> 与 <script>"),
        ("a < b > c, x &lt; y &amp;&amp; z, AT&T; R&D", "a < b > c, x < y && z, AT&T; R&D"),
        ("GRUB\\_CMDLINE\\_LINUX, C:\\dir", "GRUB_CMDLINE_LINUX, C:\\dir"),
        ("__init__.py 与 snake_case_name", "__init__.py 与 snake_case_name"),
        ("【注】（1）[待续]", "【注】（1）[待续]"),
    ],
)
def test_markup(text: str, wanted: str) -> None:
    assert without_markup(text) == wanted


@pytest.mark.parametrize("after", ["", "a", "a`"])
def test_a_long_line_of_backticks_is_looked_at_once(after: str) -> None:
    """From each of 200,000 anew, it would take an hour."""
    text = "一句" + "`" * 200_000 + after
    assert without_markup(text).startswith("一句")


@given(st.text(st.characters(exclude_characters="*`<[&\\~")))
def test_text_without_marks_stays(text: str) -> None:
    assert without_markup(text) == text


MARKS = [*"一a1 \n*`<>[]()^&;\\~", "**", "<p>", "[^1]", "](", "&lt;"]


@given(st.lists(st.sampled_from(MARKS), max_size=60).map("".join))
def test_it_ends_and_only_takes_away(text: str) -> None:
    found = without_markup(text)
    assert len(found) <= len(text)
    assert found.count("一") <= text.count("一")


def test_it_is_counted() -> None:
    cleaner = Cleaner(CleanRecipe(markup=True))
    assert cleaner("这是 **强调** 的一个词") == "这是 强调 的一个词"
    assert cleaner("这里没有什么标记符号") is not None
    count = cleaner.mended["markup"]
    assert (count.count, count.characters, count.samples) == (1, 4, ["这是 **强调** 的一个词"])


def test_off_by_default() -> None:
    assert Cleaner(CleanRecipe())("这是 **强调** 的一个词") == "这是 **强调** 的一个词"
