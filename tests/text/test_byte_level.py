"""RoBERTa's vocab.json and merges.txt, and the files of others that look like them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.text.small_files import write_roberta, write_xlm
from tests.text.small_vocabulary import write_vocabulary

from fenghuo.errors import ModelError
from fenghuo.text.tokenizer import Tokenizer

TEXTS = ["hello world, hello wind and fire", "今天天气很好，风火轮转得快"] * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_roberta(tmp_path / "roberta", TEXTS)


def names(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.pieces()[i] for i in tokenizer.encode(text).ids]


def test_numbers_are_those_of_the_file_and_blanks_belong_to_the_word_after_them(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    assert tokenizer.pieces() == sorted(ids, key=ids.__getitem__)
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.cls, vocabulary.pad, vocabulary.sep, vocabulary.unk) == (0, 1, 2, 3)
    assert vocabulary.mask == vocabulary.size - 1
    assert names(tokenizer, "hello hello") == ["hello", "Ġhello"]
    pieces = tokenizer.encode("hello hello")
    assert pieces.starts.tolist() == [0, 6]  # the blank is part of the piece, and of no place
    assert pieces.ends.tolist() == [5, 11]
    assert Tokenizer.load(folder / "vocab.json").fingerprint == tokenizer.fingerprint


def test_the_blank_before_a_mask_is_the_masks(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    assert names(tokenizer, "hello <mask>")[:2] == ["hello", "<mask>"]
    assert "<mask>" not in names(tokenizer.plain(), "hello <mask>")
    plain = {"content": "<mask>", "lstrip": False, "rstrip": False}
    (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": plain}))
    assert names(Tokenizer.load(folder), "hello <mask>")[:3] == ["hello", "Ġ", "<mask>"]


def test_the_configuration_decides_whether_a_text_begins_with_a_blank(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    tokenizer = Tokenizer.load(folder)
    assert names(tokenizer, "hello") == ["Ġhello"]
    tokenizer.save(folder / "saved")
    assert json.loads((folder / "saved" / "tokenizer_config.json").read_text())["add_prefix_space"] is True


def test_each_of_the_saved_files_alone_is_the_same_tokenizer(folder: Path) -> None:
    tokenizer, saved = Tokenizer.load(folder), folder / "saved"
    tokenizer.save(saved)
    assert not (saved / "vocab.txt").exists()
    assert (saved / "merges.txt").read_text(encoding="utf-8") == (folder / "merges.txt").read_text(
        encoding="utf-8"
    )
    assert Tokenizer.load(saved).fingerprint == tokenizer.fingerprint
    (saved / "tokenizer.json").unlink()
    assert Tokenizer.load(saved).fingerprint == tokenizer.fingerprint


def test_a_file_without_numbers_of_its_words_is_ernies_where_they_stand_beside_the_words(
    tmp_path: Path,
) -> None:
    plain = Tokenizer.load(write_vocabulary(tmp_path / "plain"))
    beside = [f"{piece}\t{number}" for number, piece in enumerate(plain.pieces())]
    ernie = Tokenizer.load(write_vocabulary(tmp_path / "ernie", beside))
    assert ernie.pieces() == plain.pieces()
    assert ernie.fingerprint == plain.fingerprint
    other = [f"{piece}\t{number + (number > 9)}" for number, piece in enumerate(plain.pieces())]
    with pytest.raises(
        ModelError, match="pad token"
    ):  # other numbers than the lines': not read as if they were
        Tokenizer.load(write_vocabulary(tmp_path / "other", other))


def xlm(folder: Path) -> None:
    model = json.loads((write_xlm(folder, TEXTS) / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("".join(" ".join(pair) + "\n" for pair in model["merges"]))


def no_merges(folder: Path) -> None:
    (folder / "merges.txt").unlink()


def half_a_pair(folder: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\na n\nhello\n")


def unknown_pair(folder: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\nzzz yyy\n")


def no_bytes(folder: Path) -> None:
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    (folder / "vocab.json").write_text(json.dumps({p: i for p, i in ids.items() if p != "Ġ"}))


def no_numbers(folder: Path) -> None:
    (folder / "vocab.json").write_text('{"<s>": "first"}')


def sentencepiece(folder: Path) -> None:
    (folder / "spiece.model").write_bytes(b"\x0a")
    write_vocabulary(folder)  # ERNIE-Tiny's vocab.txt is no WordPiece


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (xlm, "its pieces end in </w>: they are XLM's, whose text Moses cuts first"),
        (no_merges, "vocab.json: no merges.txt beside it"),
        (half_a_pair, "merges.txt: not a pair of pieces: 'hello'"),
        (unknown_pair, "merges.txt: "),
        (no_bytes, "not byte pairs over bytes: 1 of the 256 bytes"),
        (no_numbers, "the piece '<s>' has no number"),
        (sentencepiece, "spiece.model: not read here; a tokenizer.json"),
    ],
)
def test_files_that_cannot_be_read_are_named(folder: Path, spoil, message: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=message) as told:
        Tokenizer.load(folder)
    assert str(folder) in str(told.value)
