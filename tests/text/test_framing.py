"""Special pieces stand where the tokenizer's own post-processor puts them, whatever kind it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tests.text.odd_text import odd_text
from tests.text.small_files import write_roberta, write_unigram, write_xlm
from tests.text.small_vocabulary import write_vocabulary
from tokenizers import processors

from fenghuo.errors import ModelError
from fenghuo.text.tokenizer import Tokenizer, enclose, frame

TEXTS = ["Wind and fire, 风火轮转得快!", "The quick  brown fox 2024。 今天天气很好", "hello world"] * 3
KINDS = ["bert", "roberta", "xlm", "unigram", "sequence"]


def sequence_of_processors(folder: Path) -> Path:
    """A WordPiece tokenizer with RoBERTa's framing, behind a processor that adds nothing."""
    Tokenizer.load(write_vocabulary(folder)).save(folder)
    backend: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    roberta = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2), trim_offsets=False)
    backend.post_processor = processors.Sequence([processors.ByteLevel(), roberta])
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("framing")
    return {
        "bert": Tokenizer.load(write_vocabulary(folder / "bert")),
        "roberta": Tokenizer.load(write_roberta(folder / "roberta", TEXTS)),
        "xlm": Tokenizer.load(write_xlm(folder / "xlm", TEXTS)),
        "unigram": Tokenizer.load(write_unigram(folder / "unigram", TEXTS)),
        "sequence": Tokenizer.load(sequence_of_processors(folder / "sequence")),
    }


@pytest.mark.parametrize("kind", KINDS)
@given(
    texts=st.tuples(st.integers(0, 25), st.integers(0, 25) | st.none()),
    max_length=st.integers(4, 40),
)
def test_frame_is_what_the_library_frames_and_cuts(
    made: dict[str, Tokenizer], kind: str, texts: tuple[int, int | None], max_length: int
) -> None:
    tokenizer = made[kind]
    backend: Any = tokenizers.Tokenizer.from_str(tokenizer.files.tokenizer_json)
    backend.enable_truncation(max_length)
    one, two = (None if count is None else "fox " * count for count in texts)
    wanted = backend.encode(one, two)
    pieces = [None if text is None else tokenizer.encode(text).ids for text in (one, two)]
    ids, segments = frame(tokenizer.vocabulary, pieces[0], pieces[1], max_length=max_length)
    assert ids.tolist() == wanted.ids
    assert segments.tolist() == wanted.type_ids
    assert len(ids) <= max_length
    if two is None and tokenizer.vocabulary.specials(pair=False) + len(pieces[0]) <= max_length:
        assert enclose(tokenizer.vocabulary, pieces[0]).tolist() == wanted.ids


@pytest.mark.parametrize("kind", KINDS)
@given(text=odd_text)
def test_pieces_are_the_librarys_and_their_places_never_fall(
    made: dict[str, Tokenizer], kind: str, text: str
) -> None:
    tokenizer = made[kind]
    found = tokenizer.encode(text)
    (again,) = tokenizer.encode_batch([text])
    assert again.ids.tolist() == found.ids.tolist()
    assert again.starts.tolist() == found.starts.tolist()
    for places in (found.starts, found.ends):
        assert (np.diff(places) >= 0).all()
    assert (found.starts <= found.ends).all()
    assert not len(found) or (found.starts.min() >= 0 and found.ends.max() <= len(text))


@pytest.mark.parametrize(
    ("kind", "framing"),
    [
        ("bert", ("[CLS]", ["[SEP]"], "[SEP]", 1)),
        ("roberta", ("<s>", ["</s>", "</s>"], "</s>", 0)),
        ("xlm", ("</s>", ["</s>"], "</s>", 1)),
        ("unigram", ("[CLS]", ["[SEP]"], "[SEP]", 1)),
        ("sequence", ("[CLS]", ["[SEP]", "[SEP]"], "[SEP]", 0)),
    ],
)
def test_the_vocabulary_knows_the_framing(
    made: dict[str, Tokenizer], kind: str, framing: tuple[Any, ...]
) -> None:
    vocabulary, names = made[kind].vocabulary, made[kind].pieces()
    between = [names[i] for i in vocabulary.between]
    assert (names[vocabulary.cls], between, names[vocabulary.sep], vocabulary.second_segment) == framing
    specials = {vocabulary.pad, vocabulary.unk, vocabulary.cls, vocabulary.sep, vocabulary.mask}
    assert not specials & set(vocabulary.replaceable.tolist())


def test_what_is_saved_frames_alike(made: dict[str, Tokenizer], tmp_path: Path) -> None:
    for kind, tokenizer in made.items():
        tokenizer.save(tmp_path / kind)
        again = Tokenizer.load(tmp_path / kind)
        assert again.fingerprint == tokenizer.fingerprint
        assert again.files.framing == tokenizer.files.framing


def test_a_tokenizer_without_a_post_processor_is_framed_by_its_special_pieces(tmp_path: Path) -> None:
    bare = write_xlm(tmp_path / "xlm", TEXTS, framed=False)
    tokenizer = Tokenizer.load(bare)
    assert (tokenizer.vocabulary.cls, tokenizer.vocabulary.between, tokenizer.vocabulary.sep) == (1, (1,), 1)
    (bare / "tokenizer_config.json").write_text('{"cls_token": "<s>"}')
    assert Tokenizer.load(bare).vocabulary.cls == 0

    Tokenizer.load(write_roberta(tmp_path / "roberta", TEXTS)).save(tmp_path / "roberta")
    file = tmp_path / "roberta" / "tokenizer.json"
    for bare_processor in (None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}):
        file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": bare_processor}))
        tokenizer = Tokenizer.load(file)
        ids, segments = frame(tokenizer.vocabulary, np.array([9]), np.array([8]), max_length=9)
        assert ids.tolist() == [0, 9, 2, 2, 8, 2]
        assert not segments.any()
    places = tokenizer.encode("hello world")  # the processor that was there still trims blanks
    assert [piece for piece in zip(places.starts, places.ends, strict=True) if piece[0] == 5] == []
    tokenizer.save(tmp_path / "saved")
    assert processor_of(tmp_path / "saved")["type"] == "Sequence"


def processor_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())["post_processor"]
    return found


@pytest.mark.parametrize(
    ("single", "pair"),
    [
        ("$A [SEP]", "$A [SEP] $B:1 [SEP]:1"),
        ("$A [SEP] [CLS]", "$A [SEP] $B [SEP] [CLS]"),
        ("[CLS] $A [SEP]", "[CLS] $A $B [SEP]"),
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [CLS]:1"),
        ("[CLS] $A [SEP]", "[CLS] $B [SEP] $A:1 [SEP]:1"),
        ("[CLS] [CLS] $A [SEP]", "[CLS] [CLS] $A [SEP] $B:1 [SEP]:1"),
        ("[CLS] $A [SEP]", "[CLS] $A [SEP]:1 $B:1 [SEP]:1"),
    ],
)
def test_a_framing_that_is_not_known_is_refused(tmp_path: Path, single: str, pair: str) -> None:
    Tokenizer.load(write_vocabulary(tmp_path)).save(tmp_path)
    backend: Any = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match=r"frames a text as .* known here is one piece") as told:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(told.value)


def test_a_post_processor_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    Tokenizer.load(write_vocabulary(tmp_path)).save(tmp_path)
    file = tmp_path / "tokenizer.json"
    bert = {"type": "BertProcessing", "sep": ["[SEP]", 102_000], "cls": ["[CLS]", 2]}
    file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": bert}))
    with pytest.raises(ModelError, match="puts the piece 102000, and there are"):
        Tokenizer.load(tmp_path)
