"""Documents stay or go by what language most of them is in; characters are simplified by words."""

from __future__ import annotations

import sys

import pytest

from fenghuo.corpus import language
from fenghuo.corpus.clean import Cleaner
from fenghuo.corpus.language import Languages, simplifier
from fenghuo.corpus.recipe import CleanRecipe
from fenghuo.errors import MissingExtraError, RecipeError

pytest.importorskip("py3langid")
pytest.importorskip("opencc")

CODE = "sudo apt-get install python3-dev build-essential && pip install --upgrade tokenizers"
CHINESE = "使用下面的命令安装依赖，然后重新启动服务。"
JAPANESE = "この図書館は毎朝九時に開きます。日本語の本がたくさんあります。"
KOREAN = "이 도서관은 매일 아침 아홉 시에 엽니다. 한국어 책이 많이 있습니다."
ENGLISH = "The library opens at nine every morning, and there are many books in it."
GERMAN = "Die Bibliothek öffnet jeden Morgen um neun Uhr, und es gibt dort viele Bücher."


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        (CHINESE, None),
        (f"{CHINESE} {CODE}", None),
        (f"{CHINESE}\n{ENGLISH}\n{CODE}", None),
        ("爱の物语，这是一家台湾的婚纱摄影公司的名字。", None),
        ("學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？", None),
        (JAPANESE, "ja"),
        (KOREAN, "ko"),
        (ENGLISH, "en"),
        (GERMAN, "de"),
        (f"{ENGLISH * 3} 北京", "en"),
        ("OK, 3.14!", None),
        ("第三章", None),
        ("Chapter 3", None),
        ("", None),
    ],
)
def test_wanted_is_chinese(text: str, foreign: str | None) -> None:
    assert Languages(["zh"]).foreign(text) == foreign


def test_several_languages_may_be_wanted() -> None:
    wanted = Languages(["en", "ja"])
    assert [wanted.foreign(text) for text in (ENGLISH, JAPANESE, CHINESE, GERMAN)] == [None, None, "zh", "de"]


def test_the_whole_length_is_looked_at() -> None:
    assert Languages(["zh"]).foreign(ENGLISH * 30 + CHINESE * 200) is None
    assert Languages(["zh"]).foreign(CHINESE * 4 + ENGLISH * 500) == "en"


def test_a_language_nobody_knows() -> None:
    with pytest.raises(RecipeError, match=r"clean\.languages: 'zh-CN' is no language"):
        Languages(["zh", "zh-CN"])


def test_documents_are_left_out_and_counted_by_language() -> None:
    cleaner = Cleaner(CleanRecipe(languages=["zh"]))
    kept = [cleaner(text) for text in (CHINESE, ENGLISH, GERMAN, ENGLISH + " Really.")]
    assert [text is None for text in kept] == [False, True, True, True]
    assert {rule: count.count for rule, count in cleaner.left_out.items()} == {
        "language_en": 2,
        "language_de": 1,
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("數學家們研究純數學", "数学家们研究纯数学"),
        ("乾隆皇帝的頭髮發白了", "乾隆皇帝的头发发白了"),
        ("皇后在後面", "皇后在后面"),
        ("早就是简体字了", "早就是简体字了"),
        ("この図書館は語學の本が多い", "この図書館は語學の本が多い"),
        ("", ""),
    ],
)
def test_simplified(text: str, wanted: str) -> None:
    assert simplifier()(text) == wanted


def test_simplified_is_counted_by_characters() -> None:
    cleaner = Cleaner(CleanRecipe(simplified=True, min_characters=0))
    assert cleaner("數學家們研究") == "数学家们研究"
    assert cleaner("数学家们研究") == "数学家们研究"
    assert cleaner("\ud83d數") == "数"
    count = cleaner.mended["simplified"]
    assert (count.count, count.characters) == (2, 4)


def test_lone_surrogates_do_not_stop_it() -> None:
    assert simplifier()("數\ud83d") == "數\ud83d"
    assert Languages(["zh"]).foreign("\ud83d" * 10 + ENGLISH) == "en"


@pytest.mark.parametrize(
    ("package", "recipe"), [("opencc", {"simplified": True}), ("py3langid", {"languages": ["zh"]})]
)
def test_a_missing_package_is_told(
    package: str, recipe: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (package, "py3langid.langid"):
        monkeypatch.setitem(sys.modules, name, None)
    language.simplifier.cache_clear()
    language._identifier.cache_clear()
    with pytest.raises(MissingExtraError, match=rf"'{package}': pip install 'fenghuo\[clean\]'"):
        Cleaner(CleanRecipe(**recipe))
    Cleaner(CleanRecipe())
