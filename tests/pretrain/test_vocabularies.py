"""Every kind of vocabulary goes the whole way: text → vocabulary → corpus → pretraining → fewer pieces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pretrain.conftest import sentences

from fenghuo.compress.vocabulary import prune
from fenghuo.config import build_recipe
from fenghuo.corpus.build import run as build_corpus
from fenghuo.corpus.recipe import CorpusRecipe
from fenghuo.corpus.shards import ShardSource
from fenghuo.corpus.vocabulary import Kind, train
from fenghuo.finetune.recipe import FinetuneRecipe
from fenghuo.finetune.run import run as finetune
from fenghuo.models.folder import load_model
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import run as pretrain
from fenghuo.rundir import RunDir
from fenghuo.serve.predictor import load_predictor
from fenghuo.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

SHAPE = {"layers": 1, "width": 16, "heads": 2, "inner_width": 32}


def built(kind: Kind, place: Path) -> Path:
    lines = sentences(400, seed=2)
    text = "\n".join("".join(lines[at : at + 4]) for at in range(0, len(lines), 4))
    (place / "text.txt").write_text(text + "\nLinux 的 hello world，推荐。\n", encoding="utf-8")
    train([str(place / "text.txt")], place / "vocabulary", kind=kind, size=420, min_frequency=1)
    recipe = build_recipe(
        CorpusRecipe,
        {
            "input": str(place / "text.txt"),
            "tokenizer": str(place / "vocabulary"),
            "heldout": 0.05,
            "executor": {"workers": 1},
        },
    )
    build_corpus(recipe, RunDir.open(place / "corpus", verb="corpus", recipe=recipe))
    return place / "corpus"


def pretrained(kind: Kind, corpus: Path, out: Path) -> Path:
    preset = {"wordpiece": "nezha-base", "bpe": "roberta-base", "unigram": "albert-base"}[kind]
    values = SHAPE | ({"embed_width": 8} if kind == "unigram" else {})
    recipe = build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"preset": preset, "values": values},
            "batch": {"pieces": 512},
            "max_length": 32,
            "train": {"steps": 3, "seed": 1},
        },
    )
    run = RunDir.open(out, verb="pretrain", recipe=recipe)
    pretrain(recipe, run)
    return out


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_a_vocabulary_of_each_kind_goes_the_whole_way(kind: Kind, tmp_path: Path) -> None:
    corpus = built(kind, tmp_path)
    tokenizer = Tokenizer.load(corpus / "tokenizer")
    examples = ShardSource(corpus, max_pieces=30)
    assert len(examples) > 50
    shares = [float(np.mean(examples[number].word_start)) for number in range(len(examples))]
    assert 0.3 < np.mean(shares) <= 1  # words, not sentences and not bytes
    folder = pretrained(kind, corpus, tmp_path / "pretrained")
    assert load_model(folder / "model").config.vocab == tokenizer.vocabulary.size

    (tmp_path / "rows.tsv").write_text(
        "label\ttext\n" + "好\t音乐推荐\n坏\t批评足球比赛\n" * 4, encoding="utf-8"
    )
    recipe = build_recipe(
        FinetuneRecipe,
        {
            "model": {"folder": str(folder)},
            "task": {"kind": "classify", "max_length": 24},
            "data": {"train": str(tmp_path / "rows.tsv"), "test": str(tmp_path / "rows.tsv")},
            "batch": {"rows": 4},
            "train": {"steps": 2, "seed": 1},
        },
    )
    run = RunDir.open(tmp_path / "tuned", verb="finetune", recipe=recipe)
    finetune(recipe, run)
    (tmp_path / "asked.txt").write_text("音乐推荐\n批评足球比赛\n", encoding="utf-8")
    prune(tmp_path / "tuned", [str(tmp_path / "asked.txt")], tmp_path / "small")
    asked = [{"text": "音乐推荐"}, {"text": "批评足球比赛"}]
    before, after = (
        load_predictor(path, backend="torch")(asked)
        for path in (tmp_path / "tuned" / "model", tmp_path / "small")
    )
    assert before == after
    config = json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))
    assert (
        config["vocab_size"] == Tokenizer.load(tmp_path / "small").vocabulary.size < tokenizer.vocabulary.size
    )
    assert torch.is_tensor(load_model(tmp_path / "small").encoder.embed.words.weight)
