"""A tokenizer that knows a few Chinese sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.corpus.texts import SENTENCES, paragraphs

from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_vocabulary([*SENTENCES, *map(str, paragraphs(1))], size=400, min_frequency=1).save(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder)
