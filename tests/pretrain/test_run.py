"""Pretraining as a user runs it: it learns, goes on after a kill in the same bits, and stops without loss."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fenghuo.config import build_recipe, dump_recipe
from fenghuo.corpus.shards import ShardSource, corpus_tokenizer
from fenghuo.errors import ModelError, RecipeError
from fenghuo.models.folder import build, save_model
from fenghuo.models.recipe import ModelRecipe
from fenghuo.net.config import HeadsConfig
from fenghuo.objectives.objective import build_questions
from fenghuo.objectives.recipe import MlmRecipe
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import plan, run
from fenghuo.rundir import RunDir

TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}


XL = {"layers": 2, "width": 32, "heads": 2, "inner_width": 64, "memory": 0}


def recipe_of(corpus: Path, **train: object) -> PretrainRecipe:
    return build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"preset": "nezha-4l-312", "values": TINY},
            "max_length": 32,
            "batch": {"pieces": 512},
            "optimizer": {"learning_rate": 3e-3},
            "train": {"steps": 60, "seed": 3, "save_every": 5, "log_every": 5, **train},
        },
    )


def test_labels_are_the_pieces_that_stood_there(corpus: Path) -> None:
    tokenizer = corpus_tokenizer(corpus)
    source = ShardSource(corpus, max_pieces=30)
    questions = build_questions([MlmRecipe(rate=0.3)], tokenizer.vocabulary, source)
    for index in range(50):
        example = source[index]
        made = questions.prepare(example, np.random.default_rng(index))
        framed = np.concatenate([[tokenizer.vocabulary.cls], example.pieces, [tokenizer.vocabulary.sep]])
        np.testing.assert_array_equal(made["asked_pieces"], framed[made["asked_at"]])
        untouched = np.ones(len(framed), dtype=bool)
        untouched[made["asked_at"]] = False
        np.testing.assert_array_equal(made["pieces"][untouched], framed[untouched])


def test_a_model_of_another_vocabulary_of_the_same_size_is_refused(corpus: Path, tmp_path: Path) -> None:
    tokenizer = corpus_tokenizer(corpus)
    size = tokenizer.vocabulary.size
    model = build(None, family="nezha", values=TINY, vocab=size, heads=HeadsConfig(), seed=0)
    save_model(model, tmp_path / "model")
    recipe = recipe_of(corpus).model_copy(update={"model": ModelRecipe(folder=tmp_path / "model")})
    tokenizer.save(tmp_path / "model")
    assert "parameters" in plan(recipe)
    *others, last, but_one = tokenizer.pieces()
    (tmp_path / "model" / "tokenizer.json").unlink()
    (tmp_path / "model" / "vocab.txt").write_text(
        "\n".join([*others, but_one, last]) + "\n", encoding="utf-8"
    )
    with pytest.raises(ModelError, match=f"cut with {tokenizer.fingerprint}"):
        plan(recipe)


def test_a_tokenizer_beside_the_corpus_is_refused(corpus: Path) -> None:
    model = {"preset": "nezha-4l-312", "tokenizer": "v"}
    with pytest.raises(RecipeError, match=r"'model\.tokenizer' has no part in pretraining"):
        build_recipe(PretrainRecipe, recipe_of(corpus).model_dump(mode="json") | {"model": model})


@pytest.mark.slow
def test_it_learns_and_says_what_it_did(corpus: Path, tmp_path: Path) -> None:
    recipe = recipe_of(corpus)
    assert "parameters" in plan(recipe)
    folder = RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe)
    run(recipe, folder)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["figures"]["loss"] < 0.8 * math.log(300)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(5, 61, 5))
    assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "README.md"} <= {
        path.name for path in (tmp_path / "run" / "model").iterdir()
    }
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["inputs"][0]["role"] == "corpus"


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"objectives": [{"name": "mlm"}, {"name": "sop"}]},
        {"objectives": [{"name": "nsp"}, {"name": "mlm", "rate": 0.2, "weight": 2.0}]},
        {"objectives": [{"name": "causal"}], "packing": "full-sentences"},
        {"objectives": [{"name": "causal"}], "model": {"preset": "transfo-xl-enwik8-base", "values": XL}},
        {
            "objectives": [{"name": "mlm", "share": 2}, {"name": "sop"}, {"name": "causal", "share": 1}],
            "mask_copies": 2,
        },
    ],
    ids=lambda given: "+".join(one["name"] for one in given["objectives"]),
)
def test_each_kind_of_run_learns(corpus: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    values = recipe_of(corpus, steps=40).model_dump(mode="json", exclude_defaults=True)
    recipe = build_recipe(PretrainRecipe, values | given)
    assert "parameters" in plan(recipe)
    run(recipe, RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    names = [one["name"] for one in given["objectives"]]
    assert {f"{name}_accuracy" for name in names} <= result["figures"].keys()
    assert result["metric"] == f"heldout_{names[0]}_accuracy"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < 0.97 * losses[0]  # of small words: the plateau of frequent pieces
    assert set(names) <= {key.removeprefix("train/") for line in lines for key in line}


def start(recipe_file: Path, out: Path, *, heard: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fenghuo", "pretrain", str(recipe_file), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=heard)


def newest_step(out: Path) -> int:
    return max((int(path.name[5:]) for path in (out / "checkpoints").glob("step-*")), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(
    corpus: Path, tmp_path: Path, number: signal.Signals
) -> None:
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(dump_recipe(recipe_of(corpus, steps=3000, save_every=2000)), encoding="utf-8")
    process = start(recipe_file, tmp_path / "run", heard=subprocess.PIPE)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130
    assert b"saved in" in said
    assert b"Traceback" not in said
    assert 0 < newest_step(tmp_path / "run") < 2000
