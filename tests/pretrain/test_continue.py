"""Going on from a folder: the head that knows pieces is kept, and what is not there is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fenghuo.config import build_recipe
from fenghuo.corpus.shards import corpus_tokenizer
from fenghuo.corpus.visits import Cursor
from fenghuo.errors import ModelError
from fenghuo.models.folder import build, load_model, save_model
from fenghuo.models.start import start_model
from fenghuo.net.config import HeadsConfig
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import plan, run, way_of
from fenghuo.rundir import RunDir
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary

TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}


def folder_of(corpus: Path, folder: Path, heads: HeadsConfig) -> Path:
    tokenizer = corpus_tokenizer(corpus)
    size = tokenizer.vocabulary.size
    model = build(None, family="bert", values=TINY, vocab=size, heads=heads, seed=7)
    with torch.no_grad():  # nothing that a fresh head has by chance too
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    save_model(model, folder)
    tokenizer.save(folder)
    return folder


def recipe_of(corpus: Path, model: Path, **values: Any) -> PretrainRecipe:
    return build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"folder": str(model), "values": {"dropout": 0.0, "attention_dropout": 0.0}},
            "max_length": 32,
            "batch": {"rows": 16},
            "train": {"steps": 1, "seed": 3, "log_every": 1},
            **values,
        },
    )


def run_in(recipe: PretrainRecipe, out: Path) -> Path:
    run(recipe, RunDir.open(out, verb="pretrain", recipe=recipe))
    return out


def test_the_first_loss_is_the_folders_own(corpus: Path, tmp_path: Path) -> None:
    folder = folder_of(corpus, tmp_path / "model", HeadsConfig(mlm=True, pair=True))
    recipe = recipe_of(corpus, folder)
    out = run_in(recipe, tmp_path / "run")
    first = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])

    words, model = corpus_tokenizer(corpus).vocabulary, load_model(folder)
    _, [batch] = next(way_of(recipe, words).phases[0].loader.iterate(Cursor()))
    mask = np.arange(batch["lengths"].max()) < batch["lengths"][:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = batch["pieces"]
    logits = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits.flatten(0, 1)
    asked = logits[np.flatnonzero(mask)[batch["asked_at"]]]
    own = F.cross_entropy(asked, torch.from_numpy(batch["asked_pieces"])).item()
    assert first["train/loss"] == pytest.approx(own, rel=1e-5)
    assert "start afresh" not in (out / "log.txt").read_text()

    saved, given = load_model(out / "model"), model.state_dict()
    for name, weight in saved.state_dict().items():
        # What nothing asked for is kept as it was; the rest has moved by the one step.
        assert torch.equal(weight, given[name]) == name.startswith(("pair.", "pooler.")), name


def test_at_the_start_all_heads_are_the_folders(corpus: Path, tmp_path: Path) -> None:
    folder = folder_of(corpus, tmp_path / "model", HeadsConfig(mlm=True, pair=True))
    tokenizer, given = corpus_tokenizer(corpus), load_model(folder).state_dict()
    recipe = recipe_of(corpus, folder)
    model = start_model(
        recipe.model, HeadsConfig(mlm=True), tokenizer=tokenizer, seed=0, max_length=32, keep_pretraining=True
    )
    assert model.state_dict().keys() == given.keys()
    assert all(torch.equal(weight, given[name]) for name, weight in model.state_dict().items())


def test_a_head_that_is_not_there_is_told(corpus: Path, tmp_path: Path) -> None:
    folder = folder_of(corpus, tmp_path / "model", HeadsConfig(pooler=False))
    said: list[str] = []
    model = start_model(
        recipe_of(corpus, folder).model,
        HeadsConfig(mlm=True, pair=True),
        tokenizer=corpus_tokenizer(corpus),
        seed=0,
        max_length=32,
        keep_pretraining=True,
        say=said.append,
    )
    assert model.mlm is not None
    [line] = said
    assert "no weights for the MLM head, the pair head, the pooler; they start afresh" in line


def test_another_tokenizer_is_told_with_the_way_out(corpus: Path, tmp_path: Path) -> None:
    folder = folder_of(corpus, tmp_path / "model", HeadsConfig(mlm=True))
    for path in ("tokenizer.json", "vocab.txt"):
        (folder / path).unlink()
    train_vocabulary(["今天天气很好", "我们去公园"], size=60, min_frequency=1).save(folder)
    mine, theirs = corpus_tokenizer(corpus), Tokenizer.load(folder)
    with pytest.raises(ModelError) as caught:
        plan(recipe_of(corpus, folder))
    for told in (
        mine.fingerprint,
        theirs.fingerprint,
        f"{mine.vocabulary.size:,} pieces",
        f"'tokenizer: {folder}'",
    ):
        assert told in str(caught.value)
    assert f"{theirs.vocabulary.size:,} pieces" in str(caught.value)


def test_values_that_no_folder_of_the_family_can_say_are_refused_before_the_first_step(
    corpus: Path, tmp_path: Path
) -> None:
    """They were found out when the trained model was saved."""
    recipe = build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"preset": "nezha-4l-312", "values": {"position": "learned"}},
            "train": {"steps": 1},
        },
    )
    folder = RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe)
    with pytest.raises(
        ModelError, match=r"a nezha folder cannot say position \('learned'\): take a preset of"
    ):
        run(recipe, folder)
    assert folder.metrics() == []


def test_positions_that_end_before_the_longest_text_are_told_before_the_first_step(
    corpus: Path, tmp_path: Path
) -> None:
    values = {**TINY, "max_length": 8}
    recipe = build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"preset": "bert-4l-312", "values": values},
            "max_length": 32,
            "train": {"steps": 1},
        },
    )
    with pytest.raises(
        ModelError, match="max_length 32: the model has learned 8 positions and knows no others"
    ):
        plan(recipe)
    with pytest.raises(ModelError, match="has learned 8 positions"):
        run(recipe, RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe))
