"""Files of text → a tokenizer folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fenghuo.corpus.vocabulary import train
from fenghuo.errors import DataError, RecipeError, RunError
from fenghuo.text.tokenizer import Tokenizer


def test_a_vocabulary_is_learnt_from_files_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("服务很好\n服务很好 Fire\n" * 3, encoding="utf-8")
    (tmp_path / "texts" / "b.jsonl").write_text('{"text": "风火轮"}\n' * 3, encoding="utf-8")
    train([str(tmp_path / "texts")], tmp_path / "vocab", size=90)
    tokenizer = Tokenizer.load(tmp_path / "vocab")
    assert {"服", "务", "风", "火"} <= set(tokenizer.pieces())
    assert tokenizer.vocabulary.size <= 90
    with pytest.raises(RunError, match="there is something already"):
        train([str(tmp_path / "texts")], tmp_path / "vocab", size=90)


def test_another_key(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"content": "风火轮", "text": "别的"}\n' * 3, encoding="utf-8")
    pq.write_table(pa.table({"content": ["哪吒"] * 3}), tmp_path / "b.parquet")
    train([str(tmp_path)], tmp_path / "vocab", text_key="content", size=90)
    pieces = set(Tokenizer.load(tmp_path / "vocab").pieces())
    assert {"风", "火", "哪", "吒"} <= pieces
    assert "别" not in pieces
    with pytest.raises(DataError, match=r"b\.parquet: no column 'text' \(text_key\)"):
        train([str(tmp_path / "b.parquet")], tmp_path / "other", size=90)


def test_a_missing_input_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train([str(tmp_path / "nothing.txt")], tmp_path / "vocab", size=90)
    assert not (tmp_path / "vocab").exists()


def test_kinds_and_a_text_that_cannot_fill_the_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "a.txt"
    text.write_text("服务很好 good service\n" * 3, encoding="utf-8")
    for kind, family in (("bpe", "<s>"), ("unigram", "<pad>")):
        train([str(text)], tmp_path / kind, kind=kind, size=5_000)  # type: ignore[arg-type]
        tokenizer = Tokenizer.load(tmp_path / kind)
        assert tokenizer.pieces()[0] == family
        told = f"{tokenizer.vocabulary.size} pieces, not 5,000: the text has no more that occur 2 times"
        assert told in capsys.readouterr().err
    with pytest.raises(RecipeError, match="byte pairs keep case"):
        train([str(text)], tmp_path / "folded", kind="bpe", lowercase=True)
