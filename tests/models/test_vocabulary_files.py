"""The tokenizer beside released weights: read where its files say all, else taken along with a word about it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.text.small_files import XLM_SPECIALS, write_roberta, write_unigram
from tests.text.small_vocabulary import PIECES, write_vocabulary

from fenghuo.models.vocabulary_files import VocabularyFiles, find_vocabulary
from fenghuo.text.tokenizer import Tokenizer

TEXTS = ["Wind and fire", "风火轮转得快"] * 4


def saved(found: VocabularyFiles, folder: Path) -> list[str]:
    folder.mkdir()
    found.save(folder)
    return sorted(path.name for path in folder.iterdir())


def test_robertas_files_are_read_and_capitals_do_not_make_them_wordpiece(tmp_path: Path) -> None:
    source = write_roberta(tmp_path / "source", TEXTS)
    (source / "config.json").write_text("{}")
    found = find_vocabulary(source, {}, {})
    assert found.tokenizer is not None
    assert found.describe(found.tokenizer.vocabulary.size).endswith("pieces, a row each")
    files = ["merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert saved(found, tmp_path / "made") == files
    assert Tokenizer.load(tmp_path / "made").fingerprint == Tokenizer.load(source).fingerprint


def test_ernies_vocabulary_with_ids_beside_the_pieces_is_read(tmp_path: Path) -> None:
    beside = [f"{piece}\t{number}" for number, piece in enumerate(PIECES)]
    found = find_vocabulary(write_vocabulary(tmp_path / "source", beside), {}, {"do_lower_case": True})
    assert found.tokenizer is not None
    assert found.tokenizer.pieces() == PIECES
    assert "vocab.txt" in saved(found, tmp_path / "made")
    assert (tmp_path / "made" / "vocab.txt").read_text(encoding="utf-8").splitlines() == PIECES


def test_a_sentencepiece_model_is_taken_along_and_its_vocabulary_is_not_read_as_wordpiece(
    tmp_path: Path,
) -> None:
    source = write_vocabulary(tmp_path / "source")
    (source / "spm_cased_simp_sampled.model").write_bytes(b"model")
    (source / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    found = find_vocabulary(source, {}, {})
    assert found.tokenizer is None
    assert "taken along" in found.describe(9)
    assert "a tokenizer.json" in found.describe(9)
    names = ["spm_cased_simp_sampled.model", "tokenizer_config.json", "vocab.txt"]
    assert saved(found, tmp_path / "made") == names


def test_where_tokenizer_json_is_there_it_is_read_and_the_sentencepiece_model_goes_along(
    tmp_path: Path,
) -> None:
    source = write_unigram(tmp_path / "source", TEXTS)
    (source / "spiece.model").write_bytes(b"model")
    found = find_vocabulary(source, {}, {})
    assert found.tokenizer is not None
    assert {"spiece.model", "tokenizer.json"} <= set(saved(found, tmp_path / "made"))
    assert (tmp_path / "made" / "spiece.model").read_bytes() == b"model"
    assert Tokenizer.load(tmp_path / "made").fingerprint == found.tokenizer.fingerprint


def test_xlms_files_are_taken_along_and_it_is_said_why(tmp_path: Path) -> None:
    ids = {piece: number for number, piece in enumerate([*XLM_SPECIALS, "a</w>", "b"])}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text("b a</w>\n")
    found = find_vocabulary(tmp_path, {}, {})
    assert found.tokenizer is None
    assert "Moses" in found.describe(16)
    assert saved(found, tmp_path / "made") == ["merges.txt", "vocab.json"]


def test_the_words_of_facebooks_xlm_file_are_written_as_transformers_reads_them(tmp_path: Path) -> None:
    words = [*XLM_SPECIALS, "the", "th@@", "@"]
    file = tmp_path / "mlm.pth"
    found = find_vocabulary(file, {"dico_id2word": dict(enumerate(words))}, {})
    assert found.describe(17).startswith("WARNING: 17 pieces, but no merges.txt")
    assert saved(found, tmp_path / "made") == ["vocab.json"]
    ids = json.loads((tmp_path / "made" / "vocab.json").read_text())
    assert list(ids) == [*XLM_SPECIALS, "the</w>", "th", "@</w>"]
