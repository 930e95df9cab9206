"""Word edges follow the segmenter, the blanks and the punctuation, and never the pieces' luck."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text

import fenghuo.text.words as module
from fenghuo.errors import MissingExtraError, RecipeError
from fenghuo.text.tokenizer import Pieces, Tokenizer, clean_characters
from fenghuo.text.words import RjiebaSegmenter, Segmenter, load_segmenter, spans_of_joined, word_starts

SEGMENTER = RjiebaSegmenter()


def words(tokenizer: Tokenizer, text: str, spans: list[tuple[int, int]] | None = None) -> list[str]:
    """The text of each word, from its first piece's start to its last piece's end."""
    pieces = tokenizer.encode(text)
    first = np.flatnonzero(word_starts(pieces, SEGMENTER.cut(text) if spans is None else spans, text))
    last = [*(first[1:] - 1), len(pieces) - 1]
    return [text[pieces.starts[a] : pieces.ends[b]] for a, b in zip(first, last, strict=True)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "使用语言模型来预测下一个词的概率。HuggingFace 很好",
            [
                "使用",
                "语言",
                "模型",
                "来",
                "预测",
                "下",
                "一个",
                "词",
                "的",
                "概率",
                "。",
                "HuggingFace",
                "很",
                "好",
            ],
        ),
        ("语言模型。，！很好", ["语言", "模型", "。", "，", "！", "很", "好"]),
        ("don't stop", ["don", "'", "t", "stop"]),
        ("ＡＢＣ１２很好", ["ＡＢＣ１２", "很", "好"]),
        ("éa\u200bb é", ["éa\u200bb", "é"]),
        ("语\x00言模型", ["语", "言", "模型"]),
        ("一\ud800个", ["一", "个"]),
        ("T恤", ["T恤"]),
        ("😀😀中文", ["😀😀", "中文"]),
        ("", []),
        (" \t ", []),
    ],
)
def test_words(tokenizer: Tokenizer, text: str, wanted: list[str]) -> None:
    if not wanted:
        assert word_starts(tokenizer.encode(text), SEGMENTER.cut(text), text).shape == (0,)
        return
    assert words(tokenizer, text) == wanted


def test_a_segmenter_of_ones_own(tokenizer: Tokenizer) -> None:
    text = "语言模型 hugging 中文"
    # It may leave blanks out, and may cut a Latin word, which stays whole nevertheless.
    spans = [(0, 1), (1, 4), (5, 8), (8, 12), (13, 15)]
    assert words(tokenizer, text, spans) == ["语", "言模型", "hugging", "中文"]


@settings(max_examples=150, deadline=None)
@given(odd_text)
def test_the_segmenter_covers_any_text(text: str) -> None:
    spans = SEGMENTER.cut(text)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == len(text)


@settings(max_examples=150, deadline=None)
@given(odd_text)
def test_edges_hold_over_any_text(tokenizer: Tokenizer, text: str) -> None:
    """Against a slow statement of the same rule, piece by piece."""
    pieces = tokenizer.encode(text)
    spans = SEGMENTER.cut(text)
    starts = word_starts(pieces, spans, text)
    assert starts.shape == (len(pieces),)
    assert not len(starts) or starts[0]
    for i in range(1, len(pieces)):
        name, before = tokenizer.pieces()[pieces.ids[i]], tokenizer.pieces()[pieces.ids[i - 1]]
        if name.startswith("##"):
            assert not starts[i]
        if name in "，。！？、（）,.!?[]()-'" or before in "，。！？、（）,.!?[]()-'":
            assert starts[i]


@settings(max_examples=100, deadline=None)
@given(odd_text)
def test_what_stands_before_shifts_nothing(tokenizer: Tokenizer, text: str) -> None:
    """A sentence's words are its words, whatever odd text precedes it on other lines."""
    wanted = words(tokenizer, "语言模型很好")
    assert words(tokenizer, f"{text}\n语言模型很好")[-len(wanted) :] == wanted


@settings(max_examples=100, deadline=None)
@given(
    st.lists(odd_text | st.sampled_from(["语言模型很好。", "\n", "。。", "\r\n"]), max_size=8).map("".join)
)
def test_long_text_is_cut_without_a_trace(text: str) -> None:
    whole = SEGMENTER.cut(text)
    longest = max((len(part) for part in re.split("(?<=[。\n])", text)), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CUT_TOGETHER", max(longest, 1))
        assert SEGMENTER.cut(text) == whole


@pytest.mark.slow
def test_a_million_of_one_character() -> None:
    assert len(SEGMENTER.cut("中" * 1_000_000)) >= 100


def test_ten_thousand_characters(tokenizer: Tokenizer) -> None:
    text = "语言模型" * 2_500
    pieces: Pieces = tokenizer.encode(text)
    assert word_starts(pieces, SEGMENTER.cut(text), text).sum() == 5_000


def test_segmenters_by_name() -> None:
    assert load_segmenter("rjieba").name.startswith("rjieba 0.")
    with pytest.raises(RecipeError, match="unknown segmenter 'rjeba'"):
        load_segmenter("rjeba")


@pytest.fixture(scope="session")
def pkuseg_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as the package trains it, from a few sentences."""
    package = pytest.importorskip("spacy_pkuseg", reason="spacy-pkuseg is not installed (extra: pkuseg)")
    home = tmp_path_factory.mktemp("pkuseg")
    text = home / "text.txt"
    text.write_text("我 爱 北京 天安门\n北京 是 中国 的 首都\n我 爱 中国\n" * 5, encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        package.train(str(text), str(text), str(home / "spacy_ontonotes"), train_iter=2)
    return home


@pytest.fixture
def pkuseg(pkuseg_home: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    monkeypatch.setattr(import_module("spacy_pkuseg").config, "pkuseg_home", str(pkuseg_home))
    return load_segmenter("pkuseg")


def test_pkuseg_cuts_with_a_model_on_disk(pkuseg: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "我爱 北京\n天安门"
    assert [text[start:end] for start, end in pkuseg.cut(text)] == ["我", "爱", "北京", "天安门"]
    assert re.fullmatch(r"spacy-pkuseg [\d.]+ [0-9a-f]{12}", pkuseg.name)
    assert load_segmenter("pkuseg").name == pkuseg.name
    joined = spans_of_joined(pkuseg, ["我爱", "北京"]).tolist()
    assert joined == [[0, 1], [1, 2], [3, 5]]
    with monkeypatch.context() as patch:
        patch.setattr(import_module("spacy_pkuseg").config, "pkuseg_home", "/nowhere")
        said = "no features.msgpack and no weights.npz in /nowhere/spacy_ontonotes; download https://"
        with pytest.raises(RecipeError, match=said):
            load_segmenter("pkuseg")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd_text)
def test_pkuseg_covers_any_text(pkuseg: Segmenter, text: str) -> None:
    covered = [place for start, end in pkuseg.cut(text) for place in range(start, end)]
    assert covered == [place for place, one in enumerate(clean_characters(text)) if not one.isspace()]


def test_pkuseg_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy_pkuseg", None)
    with pytest.raises(MissingExtraError, match=r"spacy-pkuseg.*fenghuo\[pkuseg\]"):
        load_segmenter("pkuseg")


@settings(max_examples=150, deadline=None)
@given(st.lists(odd_text, min_size=1, max_size=5))
@example(["中\U0003134b", ""])  # the last character is one that Python's tables do not know yet
def test_words_of_joined_texts_are_those_of_each(tokenizer: Tokenizer, texts: list[str]) -> None:
    segmenter = RjiebaSegmenter()
    pieces, lengths = tokenizer.encode_joined(texts)
    found = word_starts(pieces, spans_of_joined(segmenter, texts), "\n".join(texts))
    alone = [word_starts(tokenizer.encode(text), segmenter.cut(text), text) for text in texts]
    assert lengths.tolist() == [len(one) for one in alone]
    assert found.tolist() == [bit for one in alone for bit in one.tolist()]
