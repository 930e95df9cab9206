"""Files of text → a tokenizer folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fenghuo.corpus.vocabulary import train
from fenghuo.errors import DataError, RunError
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


def test_a_missing_input_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train([str(tmp_path / "nothing.txt")], tmp_path / "vocab", size=90)
    assert not (tmp_path / "vocab").exists()
