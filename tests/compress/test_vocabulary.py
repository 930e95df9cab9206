"""`vocab prune`: a model folder and text → a smaller folder with the same answers; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fenghuo.compress.vocabulary import REPORT, prune
from fenghuo.errors import DataError, ModelError, RunError, UsageError
from fenghuo.models.folder import build, load_model, save_model
from fenghuo.net.config import HeadsConfig
from fenghuo.text.byte_pairs import train_byte_pairs
from fenghuo.text.tokenizer import Tokenizer, enclose
from fenghuo.text.unigram import train_unigram
from fenghuo.text.vocabulary import train_vocabulary
from fenghuo.text.words import RjiebaSegmenter

TEXTS = [
    "服务很好，推荐 this hotel。",
    "价格太贵，失望 about this。",
    "酒店不错 hello",
    "房间糟糕，后悔，再也不来",
]
SHAPE = {"layers": 2, "width": 16, "heads": 2, "inner_width": 32, "initializer_range": 0.2}
KINDS = {"wordpiece": "nezha", "bpe": "roberta", "unigram": "albert"}


def vocabulary(kind: str) -> Tokenizer:
    if kind == "wordpiece":
        return train_vocabulary(TEXTS * 3, size=200)
    if kind == "bpe":
        return train_byte_pairs(TEXTS * 3, size=380, segmenter=RjiebaSegmenter())
    return train_unigram(TEXTS * 3, size=180, segmenter=RjiebaSegmenter())


def write_model(folder: Path, kind: str = "wordpiece", rows: int = 0) -> Path:
    tokenizer = vocabulary(kind)
    size = tokenizer.vocabulary.size + rows
    values = SHAPE | ({"embed_width": 8} if kind == "unigram" else {})
    model = build(None, family=KINDS[kind], values=values, vocab=size, heads=HeadsConfig(mlm=True), seed=0)
    save_model(model, folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS[:2]) + "\n", encoding="utf-8")
    return str(path)


def test_text_under_another_key(tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path / "model")
    rows = [json.dumps({"content": one, "text": TEXTS[3]}) + "\n" for one in TEXTS[:2]]
    (tmp_path / "a.jsonl").write_text("".join(rows), encoding="utf-8")
    prune(folder, [str(tmp_path / "a.jsonl")], tmp_path / "keyed", text_key="content")
    prune(folder, [text], tmp_path / "plain")
    keyed, plain = Tokenizer.load(tmp_path / "keyed"), Tokenizer.load(tmp_path / "plain")
    assert keyed.pieces() == plain.pieces()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_smaller_folder_gives_the_same_outputs(kind: str, tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path / "model", kind, rows=3)
    report = prune(folder, [text], tmp_path / "out")
    before, after = Tokenizer.load(folder), Tokenizer.load(tmp_path / "out")
    whole, smaller = load_model(folder), load_model(tmp_path / "out")
    kept = [before.pieces().index(piece) for piece in after.pieces()]
    assert smaller.config.vocab == after.vocabulary.size == report.after.pieces < before.vocabulary.size
    for one in TEXTS[:2]:
        ids = torch.from_numpy(enclose(before.vocabulary, before.encode(one).ids))[None]
        new = torch.from_numpy(enclose(after.vocabulary, after.encode(one).ids))[None]
        a, b = whole(ids), smaller(new)
        assert torch.equal(a.last_hidden_state, b.last_hidden_state)
        torch.testing.assert_close(a.logits[..., kept], b.logits, rtol=0, atol=1e-6)
    assert (report.documents, report.same) == (2, 2)
    assert report.after.bytes < report.before.bytes
    assert report.after.table_share < report.before.table_share
    assert json.loads((tmp_path / "out" / REPORT).read_text())["after"]["pieces"] == report.after.pieces
    assert after.vocabulary.pad == json.loads((tmp_path / "out" / "config.json").read_text())["pad_token_id"]


def test_a_size_costs_texts_and_says_so(tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path / "model")
    whole = prune(folder, [text], tmp_path / "whole")
    report = prune(folder, [text], tmp_path / "out", size=whole.after.pieces - 3)
    assert report.after.pieces == whole.after.pieces - 3
    assert report.same < report.documents
    assert report.after.unknown_share > report.before.unknown_share
    assert "0 of 2" in "\n".join(report.lines()) or "1 of 2" in "\n".join(report.lines())


def test_listed_pieces_and_characters_stay(tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path / "model")
    (tmp_path / "keep.txt").write_text("糟\n\n糕\n", encoding="utf-8")
    prune(folder, [text], tmp_path / "listed", keep=tmp_path / "keep.txt")
    pieces = set(Tokenizer.load(tmp_path / "listed").pieces())
    assert {"糟", "糕"} <= pieces
    assert "房" not in pieces
    prune(folder, [text], tmp_path / "characters", keep_characters=True)
    assert {"房", "间"} <= set(Tokenizer.load(tmp_path / "characters").pieces())
    (tmp_path / "keep.txt").write_text("糟糕\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"keep\.txt:1: '糟糕' is no piece"):
        prune(folder, [text], tmp_path / "none", keep=tmp_path / "keep.txt")


def test_a_graph_of_the_old_table_is_left_behind_and_named(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"graph")
    prune(folder, [text], tmp_path / "out")
    assert "onnx/model.onnx: not taken along" in capsys.readouterr().err
    assert not (tmp_path / "out" / "onnx").exists()


def test_mistakes_are_told_and_leave_no_folder(tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(RunError, match="there is something already"):
        prune(folder, [text], tmp_path / "full")
    with pytest.raises(UsageError, match="pieces stay in any case"):
        prune(folder, [text], tmp_path / "out", size=9)
    with pytest.raises(DataError):
        prune(folder, [str(tmp_path / "absent.txt")], tmp_path / "out")
    train_vocabulary(TEXTS * 3, size=300, min_frequency=1).save(folder)
    save_model(build(None, family="nezha", values=SHAPE, vocab=9, heads=HeadsConfig(), seed=0), folder)
    with pytest.raises(ModelError, match="for 9 rows of the word table"):
        prune(folder, [text], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert np.all([not path.name.startswith(".out") for path in tmp_path.iterdir()])
