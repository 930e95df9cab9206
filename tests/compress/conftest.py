"""Rows that a tiny model can learn, a pretrained folder to start from, and an exported model."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from tests.compress.small_models import make_model

from fenghuo.compress.export import export
from fenghuo.models.folder import save_model
from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.initial import build_model
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary

GOOD = ["很好", "不错", "推荐", "满意", "喜欢"]
BAD = ["太差", "失望", "糟糕", "后悔", "难用"]
THINGS = ["酒店", "房间", "服务", "价格", "屏幕", "早餐", "这本书", "位置"]


def reviews(number: int, seed: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    rows = []
    for _ in range(number):
        label = draw.choice(["good", "bad"])
        words = GOOD if label == "good" else BAD
        text = "，".join(draw.choice(THINGS) + draw.choice(words) for _ in range(draw.randint(1, 3))) + "。"
        rows.append((label, text))
    return rows


def write_reviews(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("label\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def rows_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for name, number, seed in (("train", 200, 1), ("dev", 60, 2), ("test", 60, 3)):
        write_reviews(folder / f"{name}.tsv", reviews(number, seed))
    return folder


@pytest.fixture(scope="session")
def review_tokenizer() -> Tokenizer:
    return train_vocabulary([text for _, text in reviews(200, 1)], size=200, min_frequency=1)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, review_tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    config = EncoderConfig(
        vocab=review_tokenizer.vocabulary.size, layers=2, width=32, heads=2, inner_width=64, position="nezha"
    )
    save_model(build_model(config, HeadsConfig(mlm=True), seed=1, family="nezha"), folder)
    review_tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NEZHA classifier with its ONNX file. Exporting takes seconds: whoever changes it takes `folder`."""
    folder = make_model(tmp_path_factory.mktemp("exported") / "model")
    export(folder)
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of `exported`."""
    return Path(shutil.copytree(exported, tmp_path / "model"))
