from __future__ import annotations

import json
from itertools import product

import pytest
from tests.text.small_vocabulary import write_vocabulary

from fenghuo.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_vocabulary(tmp_path_factory.mktemp("lower")))


@pytest.fixture(scope="session")
def bert_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[Tokenizer]:
    """Of each way that BERT's normalizer treats case and accents; without an answer, accents go with case."""
    found = []
    for lower, strip in product((True, False), (None, True, False)):
        folder = write_vocabulary(tmp_path_factory.mktemp("bert"))
        config = {"do_lower_case": lower, "strip_accents": strip}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        found.append(Tokenizer.load(folder))
    return found


@pytest.fixture(scope="session")
def cased_tokenizer(bert_tokenizers: list[Tokenizer]) -> Tokenizer:
    return bert_tokenizers[3]
