"""Offsets hold over any text, the fast way equals the library, and bad files are named."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text
from tests.text.small_vocabulary import PIECES, write_vocabulary

from fenghuo.errors import ModelError
from fenghuo.text import runs
from fenghuo.text.tokenizer import Pieces, Tokenizer, clean_characters, frame

if TYPE_CHECKING:
    from pathlib import Path

IDS = {piece: i for i, piece in enumerate(PIECES)}


def names(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.pieces()[i] for i in tokenizer.encode(text).ids]


def library_pieces(
    tokenizer: Tokenizer, text: str, *, plain: bool = False
) -> tuple[list[int], list[tuple[int, int]]]:
    encoding = library(tokenizer, plain).encode(clean_characters(text), add_special_tokens=False)
    return encoding.ids, encoding.offsets


@cache
def library(tokenizer: Tokenizer, plain: bool) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer.from_str(tokenizer.files.tokenizer_json)
    backend.encode_special_tokens = plain
    return backend


@cache
def plain_twin(tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer.plain()


def test_pieces_of_mixed_text(tokenizer: Tokenizer) -> None:
    text = "中文Hugging\u200bFace，\x00很好é"
    pieces = tokenizer.encode(text)
    assert names(tokenizer, text) == ["中", "文", "hugging", "##face", "，", "很", "好", "e"]
    assert [text[a:b] for a, b in zip(pieces.starts, pieces.ends, strict=True)] == [
        *("中", "文", "Hugging", "Face", "，", "很", "好", "é")
    ]
    assert pieces.ids.dtype == np.int64
    assert pieces.starts.dtype == pieces.ends.dtype == np.int32


@settings(max_examples=150, deadline=None)
@given(odd_text)
def test_the_fast_way_is_the_library(bert_tokenizers: list[Tokenizer], text: str) -> None:
    for one in bert_tokenizers:
        for plain, used in ((False, one), (True, plain_twin(one))):
            pieces = used.encode(text)
            ids, offsets = library_pieces(one, text, plain=plain)
            assert pieces.ids.tolist() == ids
            assert list(zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True)) == offsets


@settings(max_examples=100, deadline=None)
@given(st.lists(odd_text, max_size=6), st.integers(0, 12), st.integers(0, 6), st.integers(0, 9))
def test_what_is_asked_together_and_forgotten_leaves_no_trace(
    tokenizer: Tokenizer, texts: list[str], together: int, runs_kept: int, pieces_kept: int
) -> None:
    used = tokenizer.plain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_ASKED_TOGETHER", together)
        patch.setattr(runs, "_CACHED_RUNS", runs_kept)
        patch.setattr(runs, "_CACHED_PIECES", pieces_kept)
        for text in texts:
            pieces = used.encode(text)
            ids, offsets = library_pieces(tokenizer, text, plain=True)
            assert pieces.ids.tolist() == ids
            assert list(zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True)) == offsets


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from([*map(chr, range(0x21, 0x7F)), "中", "，", "\u0301", "\u0338", " ", "é"])))
def test_marks_of_ascii_stand_alone_as_the_library_has_them(
    bert_tokenizers: list[Tokenizer], text: str
) -> None:
    for one in bert_tokenizers:
        pieces = one.encode(text)
        ids, offsets = library_pieces(one, text)
        assert pieces.ids.tolist() == ids
        assert list(zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True)) == offsets


@settings(max_examples=150, deadline=None)
@given(odd_text)
def test_offsets_hold_over_any_text(tokenizer: Tokenizer, text: str) -> None:
    pieces = tokenizer.encode(text)
    assert (np.diff(pieces.starts) >= 0).all()
    assert (np.diff(pieces.ends) >= 0).all()
    assert ((pieces.starts >= 0) & (pieces.starts < pieces.ends) & (pieces.ends <= len(text))).all()
    for i, start, end in zip(pieces.ids, pieces.starts, pieces.ends, strict=True):
        if PIECES[i] in "中文语言模型":
            assert text[start:end] == PIECES[i]
    ideographs = {place for place, character in enumerate(text) if "\u4e00" <= character <= "\u9fff"}
    assert ideographs <= set(pieces.starts.tolist())  # each is a piece of its own, known or not


@settings(max_examples=50, deadline=None)
@given(st.lists(odd_text, max_size=5))
def test_a_batch_is_its_texts(tokenizer: Tokenizer, texts: list[str]) -> None:
    for text, pieces in zip(texts, tokenizer.encode_batch(texts), strict=True):
        alone = tokenizer.encode(text)
        assert pieces.ids.tolist() == alone.ids.tolist()
        assert pieces.starts.tolist() == alone.starts.tolist()


@pytest.mark.parametrize("unit", ["x", "中", "é", "\u200d", "😀", "\x00", "ab ", "\ud800"])
def test_ten_thousand_of_anything(tokenizer: Tokenizer, unit: str) -> None:
    text = unit * 10_000
    pieces = tokenizer.encode(text)
    ids, offsets = library_pieces(tokenizer, text)
    assert pieces.ids.tolist() == ids
    assert list(zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True)) == offsets


def test_clean_characters_keeps_every_place() -> None:
    assert clean_characters("a\ud83db\x00c") == "a\ufffdb\ufffdc"
    text = "中\U0001f600"
    assert clean_characters(text) is text


def test_plain_reads_special_names_as_text(tokenizer: Tokenizer) -> None:
    assert names(tokenizer, "中[MASK]文") == ["中", "[MASK]", "文"]
    assert names(tokenizer.plain(), "中[MASK]文") == ["中", "[", "mask", "]", "文"]
    assert tokenizer.plain().fingerprint == tokenizer.fingerprint


def test_vocabulary(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.pad, vocabulary.unk, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert vocabulary.size == len(PIECES)
    assert vocabulary.replaceable.tolist() == list(range(7, len(PIECES)))


def test_save_and_load_again(cased_tokenizer: Tokenizer, tmp_path: Path) -> None:
    cased_tokenizer.save(tmp_path)
    whole = Tokenizer.load(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "BertTokenizerFast"
    assert config["do_lower_case"] is False
    (tmp_path / "tokenizer.json").unlink()
    for again in (whole, Tokenizer.load(tmp_path), Tokenizer.load(tmp_path / "vocab.txt")):
        assert again.fingerprint == cased_tokenizer.fingerprint
        assert again.pieces() == PIECES
        assert names(again, "HuggingFace") == ["HuggingFace"]


def test_fingerprint_tells_tokenizers_apart(
    tokenizer: Tokenizer, cased_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    swapped = Tokenizer.load(write_vocabulary(tmp_path, [*PIECES[:-2], PIECES[-1], PIECES[-2]]))
    assert len({tokenizer.fingerprint, cased_tokenizer.fingerprint, swapped.fingerprint}) == 3


def test_specials_under_other_names(tmp_path: Path) -> None:
    folder = write_vocabulary(tmp_path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<unused0>", "中"])
    vocabulary = Tokenizer.load(folder).vocabulary
    assert (vocabulary.cls, vocabulary.pad, vocabulary.sep, vocabulary.unk, vocabulary.mask) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert vocabulary.replaceable.tolist() == [6]


def test_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*PIECES, ""]).encode())
    assert Tokenizer.load(tmp_path).pieces() == PIECES


def _absent(folder: Path) -> Path:
    return folder / "nowhere"


def _empty_folder(folder: Path) -> Path:
    return folder


def _duplicate(folder: Path) -> Path:
    return write_vocabulary(folder, [*PIECES, "中"])


def _no_mask(folder: Path) -> Path:
    return write_vocabulary(folder, [piece for piece in PIECES if piece != "[MASK]"])


def _binary(folder: Path) -> Path:
    (folder / "vocab.txt").write_bytes(b"[PAD]\n\xff\xfe\x00")
    return folder


def _damaged_json(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordPi')
    return folder


def _damaged_config(folder: Path) -> Path:
    (write_vocabulary(folder) / "tokenizer_config.json").write_text("{")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_absent, "no such file"),
        (_empty_folder, "holds neither tokenizer.json nor vocab.txt"),
        (_duplicate, f"line {len(PIECES) + 1} repeats the piece '中' of line 8"),
        (_no_mask, r"the mask token \[MASK\] or <mask> or <special1> is not in the vocabulary"),
        (_binary, r"not UTF-8 text \(byte 6\)"),
        (_damaged_json, "not a tokenizer of the `tokenizers` library"),
        (_damaged_config, "tokenizer_config.json: not JSON"),
    ],
)
def test_bad_files_are_named(make, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Tokenizer.load(make(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_frame(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.vocabulary
    a, b = np.array([11, 12, 13]), np.array([21, 22])
    ids, segments = frame(vocabulary, a, b, max_length=16)
    assert ids.tolist() == [2, 11, 12, 13, 3, 21, 22, 3]
    assert segments.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    ids, segments = frame(vocabulary, a, None, max_length=4)
    assert ids.tolist() == [2, 11, 12, 3]
    assert segments.tolist() == [0] * 4
    with pytest.raises(ValueError, match="no room"):
        frame(vocabulary, a, b, max_length=2)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(3, 40))
def test_frame_cuts_as_the_library_does(tokenizer: Tokenizer, of_a: int, of_b: int, max_length: int) -> None:
    backend = tokenizers.Tokenizer.from_str(tokenizer.files.tokenizer_json)
    backend.enable_truncation(max_length)
    wanted = backend.encode("中" * of_a, "文" * of_b)
    ids, segments = frame(
        tokenizer.vocabulary,
        np.full(of_a, IDS["中"]),
        np.full(of_b, IDS["文"]),
        max_length=max_length,
    )
    assert ids.tolist() == wanted.ids
    assert segments.tolist() == wanted.type_ids


def test_empty_text(tokenizer: Tokenizer) -> None:
    pieces: Pieces = tokenizer.encode("")
    assert len(pieces) == 0
    assert pieces.starts.shape == (0,)
