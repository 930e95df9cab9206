"""Byte-level vocabularies: the same in every run, of the size asked for, and with everything spelt."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from tests.text.odd_text import odd_text

from fenghuo.errors import DataError, RecipeError
from fenghuo.text.byte_pairs import FIRST, train_byte_pairs
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.words import RjiebaSegmenter, word_starts

TEXTS = [
    "我们使用语言模型，语言模型使用 Linux 的命令行。",
    "学习 learning learners 学习机器学习",
    "他们的服务很好",
]


def trained(texts: list[str] = TEXTS, size: int = 320) -> Tokenizer:
    return train_byte_pairs(texts * 3, size=size, segmenter=RjiebaSegmenter())


def test_it_is_numbered_as_roberta_is() -> None:
    tokenizer = trained()
    assert tokenizer.pieces()[:4] == list(FIRST)
    assert tokenizer.pieces()[-1] == "<mask>"
    known = tokenizer.vocabulary
    assert (known.size, known.pad, known.cls, known.sep, known.mask) == (320, 1, 0, 2, 319)
    assert known.between == (2, 2)
    assert set(known.replaceable) == set(range(4, 319))


def test_pieces_are_parts_of_words() -> None:
    text = "我们使用语言模型"
    tokenizer = trained(size=400)
    pieces = tokenizer.encode(text)
    assert [text[a:b] for a, b in zip(pieces.starts, pieces.ends, strict=True)] == [
        "我们",
        "使用",
        "语言",
        "模型",
    ]
    starts = word_starts(pieces, RjiebaSegmenter().cut(text), text)
    assert starts.all()


def test_a_text_too_short_gives_fewer_pieces() -> None:
    assert 261 < trained(["服务"], 400).vocabulary.size < 290


@settings(max_examples=40, deadline=None)
@given(odd_text)
def test_every_text_is_spelt_and_placed(text: str) -> None:
    tokenizer = _ONE
    pieces = tokenizer.plain().encode(text)
    assert tokenizer.vocabulary.unk not in pieces.ids
    assert all(a <= b for a, b in zip(pieces.starts, pieces.ends, strict=True))
    assert (sorted(pieces.starts), sorted(pieces.ends)) == (list(pieces.starts), list(pieces.ends))


_ONE = trained()


def test_the_order_of_texts_does_not_matter() -> None:
    assert trained(TEXTS[::-1]).fingerprint == _ONE.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_every_process_finds_the_same_with_and_without_threads(kind: str) -> None:
    name = {"bpe": "byte_pairs import train_byte_pairs", "unigram": "unigram import train_unigram"}[kind]
    code = f"""from fenghuo.text.{name} as train
from fenghuo.text.words import RjiebaSegmenter
print(train({TEXTS!r} * 3, size=320, segmenter=RjiebaSegmenter()).files.tokenizer_json)"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": threads, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "true"), ("2", "false"), ("3", "true"))
    }
    assert len(found) == 1


def test_mistakes_are_told() -> None:
    with pytest.raises(RecipeError, match="at least 262"):
        trained(size=261)
    with pytest.raises(DataError, match="no text"):
        trained([" \n"])
