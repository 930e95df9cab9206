"""Pretraining as a user runs it: it learns, goes on after a kill in the same bits, and stops without loss."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fenghuo.pretrain.evaluate
import fenghuo.pretrain.run
from fenghuo.config import build_recipe, dump_recipe
from fenghuo.corpus.batch import Packing
from fenghuo.corpus.shards import ShardSource, corpus_tokenizer
from fenghuo.errors import ModelError, RecipeError
from fenghuo.models.folder import build, save_model
from fenghuo.models.recipe import ModelRecipe
from fenghuo.net.config import HeadsConfig
from fenghuo.objectives.objective import build_questions
from fenghuo.objectives.recipe import MlmRecipe
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import plan, run, way_of
from fenghuo.rundir import RunDir
from fenghuo.training.loop import Step
from fenghuo.training.session import Session

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


@pytest.mark.parametrize(("packing", "copies"), [("doc-sentences", None), ("full-sentences", 7)])
def test_packing_and_mask_copies_reach_the_loader(corpus: Path, packing: Packing, copies: int | None) -> None:
    values = recipe_of(corpus).model_dump(mode="json", exclude_defaults=True)
    recipe = build_recipe(PretrainRecipe, values | {"packing": packing, "mask_copies": copies})
    [phase] = way_of(recipe, corpus_tokenizer(corpus).vocabulary).phases
    wanted = ShardSource(corpus, max_pieces=30, packing=packing)
    np.testing.assert_array_equal(phase.source.lengths, wanted.lengths)
    assert phase.loader.source is phase.source
    assert phase.loader.copies == copies


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


def small(corpus: Path, train: dict[str, Any], **values: Any) -> PretrainRecipe:
    """Few pieces a step, and no dropout, so that losses can be compared step by step."""
    still = {**TINY, "dropout": 0.0, "attention_dropout": 0.0}
    given = recipe_of(corpus, log_every=1, evaluate_every=1000, **train).model_dump(
        mode="json", exclude_defaults=True
    )
    given |= {"model": {"preset": "nezha-4l-312", "values": still}, "batch": {"pieces": 128}}
    return build_recipe(PretrainRecipe, given | values)


def pretrain(recipe: PretrainRecipe, out: Path) -> None:
    folder = RunDir.open(out, verb="pretrain", recipe=recipe)
    try:
        run(recipe, folder)
    finally:
        folder.close()


def losses(out: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["train/loss"] for line in lines if "train/loss" in line])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations and the look at the machine's peak take little time."""
    monkeypatch.setattr(fenghuo.pretrain.evaluate, "ASKED_PIECES", 100)
    monkeypatch.setattr(fenghuo.pretrain.run, "PEAK_S", 0.01)


class KilledError(Exception):
    """The end of a process, as far as its run folder can tell."""


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_bf16_learns_what_fp32_learns_and_goes_on_in_the_same_bits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision in ("fp32", "bf16"):
        pretrain(small(corpus, {"steps": 40, "precision": precision}), tmp_path / precision)
    full, half = losses(tmp_path / "fp32"), losses(tmp_path / "bf16")
    assert half[-5:].mean() < 0.93 * half[0]
    apart = np.abs(half / full - 1)
    print(f"bf16: first {apart[0]:.1e}, largest {apart.max():.1e}")
    assert 0 < apart.max() < 0.03

    steps = Session._steps

    def killed(self: Session) -> Iterator[Step]:
        for step in steps(self):
            if step.number == 18:
                raise KilledError
            yield step

    recipe = small(corpus, {"steps": 40, "precision": "bf16"})
    monkeypatch.setattr(Session, "_steps", killed)
    with pytest.raises(KilledError):
        pretrain(recipe, tmp_path / "left")
    monkeypatch.setattr(Session, "_steps", steps)
    saved = load_file(tmp_path / "left" / "checkpoints" / "step-15" / "state.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    pretrain(recipe, tmp_path / "left")
    assert "going on after step 15 of 40" in (tmp_path / "left" / "log.txt").read_text()
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("left", "bf16")]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_processes_that_prepare_batches_change_nothing(corpus: Path, tmp_path: Path) -> None:
    """What is asked, and which of several questions, goes to them pickled."""
    objectives = [{"name": "mlm", "share": 1}, {"name": "nsp"}, {"name": "causal", "share": 1}]
    for workers in (0, 1):
        batch = {"pieces": 128, "workers": workers}
        recipe = small(corpus, {"steps": 6}, objectives=objectives, batch=batch)
        pretrain(recipe, tmp_path / f"workers-{workers}")
    np.testing.assert_array_equal(losses(tmp_path / "workers-0"), losses(tmp_path / "workers-1"))


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
