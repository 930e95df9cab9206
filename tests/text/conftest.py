from __future__ import annotations

import pytest
from tests.text.small_vocabulary import write_vocabulary

from fenghuo.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_vocabulary(tmp_path_factory.mktemp("lower")))


@pytest.fixture(scope="session")
def cased_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = write_vocabulary(tmp_path_factory.mktemp("cased"))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    return Tokenizer.load(folder)
