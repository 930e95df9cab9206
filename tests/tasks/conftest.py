"""A real tokenizer over a few sentences."""

from __future__ import annotations

import pytest

from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary

TEXT = ["李明在北京工作。", "服务很好，New York 的酒店也不错！", "上海的王芳说：价格太贵了，不推荐。"] * 3


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_vocabulary(TEXT, size=200, min_frequency=1)
