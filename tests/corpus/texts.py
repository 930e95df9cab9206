"""Chinese text for tests, and a corpus made of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from fenghuo.config import build_recipe
from fenghuo.corpus.build import run as build_corpus
from fenghuo.corpus.recipe import CorpusRecipe
from fenghuo.rundir import RunDir

if TYPE_CHECKING:
    from pathlib import Path

SENTENCES = [
    "风火轮是哪吒脚下的两个轮子。",
    "语言模型可以预测下一个词的概率！",
    "今天的天气很好，我们去公园散步吧。",
    "这家酒店的服务怎么样？",
    "早餐很丰富，房间也很干净；下次还会再来。",
    "Linux 是一个开源的操作系统。",
    "The quick brown fox jumps over the lazy dog.",
    "北京大学和清华大学都在海淀区。",
    "他说：“明天见。”然后就走了。",
    "医生建议他多喝水，少熬夜。",
    "股票市场昨天下跌了百分之三。",
    "小明把书放在桌子上，忘了带走。",
]


def paragraphs(number: int, seed: int = 0) -> list[list[str]]:
    """Documents as lists of sentences, all different."""
    rng = random.Random(seed)
    return [
        [f"第{i}篇文章。", *(rng.choice(SENTENCES) for _ in range(rng.randint(1, 12)))] for i in range(number)
    ]


def write_paragraphs(path: Path, documents: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join("\n".join(document) for document in documents) + "\n", encoding="utf-8")
    return path


def recipe_of(source: Any, tokenizer: Path, **values: Any) -> CorpusRecipe:
    given = {"input": source, "tokenizer": str(tokenizer), "executor": {"workers": 1}, **values}
    return build_recipe(CorpusRecipe, given)


def build(out: Path, recipe: CorpusRecipe) -> dict[str, Any]:
    """Build a corpus and give its result."""
    build_corpus(recipe, RunDir.open(out, verb="corpus", recipe=recipe))
    return RunDir.read_result(out)
