"""A small real corpus, built once by the stages themselves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fenghuo.config import build_recipe
from fenghuo.corpus.build import run as build_corpus
from fenghuo.corpus.recipe import CorpusRecipe
from fenghuo.rundir import RunDir
from fenghuo.text.vocabulary import train_vocabulary

SUBJECTS = ["李明", "王芳", "老师", "记者", "客人", "服务员", "这家酒店", "这本书", "新手机", "市政府"]
VERBS = ["喜欢", "推荐", "发现", "介绍", "购买", "参观", "批评", "支持", "研究", "报道"]
OBJECTS = [
    "北京的天气",
    "房间的设施",
    "价格便宜的早餐",
    "屏幕和键盘",
    "上海浦东机场",
    "经济发展",
    "环境保护",
    "音乐",
    "足球比赛",
    "古代历史",
]


LIKED = ("喜欢", "推荐", "支持")


def sentences(number: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        "".join(draw.choice(part) for part in (SUBJECTS, VERBS, OBJECTS)) + draw.choice("。！？")
        for _ in range(number)
    ]


def write_rows(folder: Path, *, kind: str = "classify", chance: bool = False) -> dict[str, str]:
    """Sentences of the corpus; the label hangs on the verb, or on nothing."""
    draw = random.Random(5)
    for name, size in (("train", 240), ("test", 200)):
        lines = ["label\ttext\ttext_pair" if kind == "pair" else "label\ttext"]
        for _ in range(size):
            verb = draw.choice(VERBS)
            text = draw.choice(SUBJECTS) + verb + draw.choice(OBJECTS) + "。"
            label = draw.random() < 0.3 if chance else verb in LIKED
            lines.append(f"{'好' if label else '坏'}\t{text}" + ("\t" + text[::-1] if kind == "pair" else ""))
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {name: str(folder / f"{name}.tsv") for name in ("train", "test")}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = sentences(4000, seed=1)
    documents = ["".join(lines[at : at + 4]) for at in range(0, len(lines), 4)]
    (folder / "text.txt").write_text("\n".join(documents), encoding="utf-8")
    train_vocabulary(documents, size=300, min_frequency=1).save(folder / "vocabulary")
    recipe = build_recipe(
        CorpusRecipe,
        {
            "input": str(folder / "text.txt"),
            "tokenizer": str(folder / "vocabulary"),
            "heldout": 0.05,
            "executor": {"workers": 1},
        },
    )
    build_corpus(recipe, RunDir.open(folder / "run", verb="corpus", recipe=recipe))
    return folder / "run"
