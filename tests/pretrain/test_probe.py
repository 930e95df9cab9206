"""The probe: vectors by brute force, a line that is the best one, and a run that it leaves as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tests.pretrain.conftest import write_rows

from fenghuo.config import build_recipe
from fenghuo.corpus.shards import corpus_tokenizer
from fenghuo.errors import DataError, ModelError, RecipeError
from fenghuo.models.folder import build, load_model
from fenghuo.models.recipe import ModelRecipe
from fenghuo.net.config import HeadsConfig
from fenghuo.net.model import Model
from fenghuo.pretrain.probe import Probe, text_vectors
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import plan, run
from fenghuo.rundir import RunDir

TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}


def recipe_of(corpus: Path, probe: Any = None, **train: Any) -> PretrainRecipe:
    return build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"preset": "nezha-4l-312", "values": TINY},
            "max_length": 32,
            "batch": {"rows": 8},
            "probe": probe,
            "train": {"seed": 3, "log_every": 1, "steps": 6, "evaluate_every": 3, **train},
        },
    )


def model_of(corpus: Path) -> Model:
    size = corpus_tokenizer(corpus).vocabulary.size
    return build(None, family="nezha", values=TINY, vocab=size, heads=HeadsConfig(mlm=True), seed=7)


def probe_of(corpus: Path, files: dict[str, str], kind: str = "classify", rows: int = 2000) -> Probe:
    recipe = recipe_of(corpus, {"task": kind, "data": files, "rows": rows})
    assert recipe.probe is not None
    return Probe(recipe.probe, corpus_tokenizer(corpus), model_of(corpus).config)


@pytest.mark.parametrize("kind", ["classify", "pair"])
def test_vectors_are_means_over_the_pieces_of_each_text_alone(
    corpus: Path, tmp_path: Path, kind: str
) -> None:
    probe, model = probe_of(corpus, write_rows(tmp_path, kind=kind), kind), model_of(corpus).eval()
    found = text_vectors(model, probe.test[:20])
    for example, vector in zip(probe.test[:20], found, strict=True):
        with torch.no_grad():
            pieces, segments = (torch.from_numpy(x)[None] for x in (example.pieces, example.segments))
            alone = model(pieces, token_type_ids=segments).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, alone.numpy(), atol=1e-5)


def test_the_line_is_that_of_the_penalized_likelihood(corpus: Path, tmp_path: Path) -> None:
    """Logistic regression by hand: loss summed over rows plus half the squared weights, the intercept free."""
    probe, model = probe_of(corpus, write_rows(tmp_path)), model_of(corpus)
    learned, asked = text_vectors(model, probe.train), text_vectors(model, probe.test)
    mean, spread = learned.mean(0), learned.std(0) + 1e-6
    x, signs = (learned - mean) / spread, np.array([2 * int(e.labels) - 1 for e in probe.train])

    def loss(w: Any) -> Any:
        return np.logaddexp(0, -signs * (x @ w[:-1] + w[-1])).sum() + w[:-1] @ w[:-1] / 2

    best = minimize(
        loss, np.zeros(x.shape[1] + 1), method="L-BFGS-B", options={"maxfun": 10**6, "maxiter": 10**4}
    ).x
    given = (asked - mean) / spread @ best[:-1] + best[-1] > 0
    right = np.mean(given == np.array([bool(e.labels) for e in probe.test]))
    assert probe.figures(model)["probe_accuracy"] == pytest.approx(
        right, abs=0.011
    )  # two rows of 200 on the edge


def test_what_the_text_says_is_found_and_what_it_does_not_say_is_not(corpus: Path, tmp_path: Path) -> None:
    model = model_of(corpus)
    told = probe_of(corpus, write_rows(tmp_path)).figures(model)
    assert told["probe_accuracy"] > 0.9
    luck = probe_of(corpus, write_rows(tmp_path, chance=True)).figures(model)
    assert luck["probe_macro_f1"] < 0.65
    assert set(told) == {"probe_accuracy", "probe_macro_f1"}


def test_a_run_tells_it_at_every_evaluation_and_ends_in_the_same_weights(
    corpus: Path, tmp_path: Path
) -> None:
    probe = {"task": "classify", "data": write_rows(tmp_path), "rows": 50}
    models = {}
    for name, asked in (("plain", None), ("probed", probe)):
        recipe = recipe_of(corpus, asked)
        run(recipe, RunDir.open(tmp_path / name, verb="pretrain", recipe=recipe))
        models[name] = load_model(tmp_path / name / "model").state_dict()
    assert all(torch.equal(value, models["probed"][name]) for name, value in models["plain"].items())
    lines = [json.loads(line) for line in (tmp_path / "probed" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "heldout/probe_accuracy" in line] == [3, 6]
    result = json.loads((tmp_path / "probed" / "result.json").read_text())
    assert 0 <= result["figures"]["probe_accuracy"] <= 1
    inputs = json.loads((tmp_path / "probed" / "environment.json").read_text())["inputs"]
    assert [one["path"] for one in inputs if one["role"] == "data"] == list(probe["data"].values())


def test_rows_are_drawn_from_the_whole_file_and_the_plan_counts_them(corpus: Path, tmp_path: Path) -> None:
    files = write_rows(tmp_path)
    for path in map(Path, files.values()):  # sorted by label, as published files are
        head, *rows = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([head, *sorted(rows)]) + "\n", encoding="utf-8")
    probe = probe_of(corpus, files, rows=60)
    assert 5 < sum(int(example.labels) for example in probe.train) < 55
    told = plan(recipe_of(corpus, {"task": "classify", "data": files, "rows": 60}))
    assert "probe            60 rows to learn from, 60 asked; labels 坏, 好" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "tag"}, "task classify or pair"),
        ({"data": {"train": "a.tsv"}}, "data.train and data.test"),
        ({"rows": 1}, "allowed: more than 1"),
    ],
)
def test_a_probe_that_cannot_be_is_refused_before_the_run(
    corpus: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(corpus, {"task": "classify", "data": write_rows(tmp_path), **change})


def test_a_label_that_is_only_asked_is_named_with_its_place(corpus: Path, tmp_path: Path) -> None:
    files = write_rows(tmp_path)
    with Path(files["test"]).open("a", encoding="utf-8") as file:
        file.write("中\t李明喜欢音乐。\n")
    with pytest.raises(DataError, match=r"test\.tsv:202: unknown label '中'"):
        probe_of(corpus, files)


def test_a_label_that_is_too_rare_to_be_drawn_is_known_all_the_same(corpus: Path, tmp_path: Path) -> None:
    files = write_rows(tmp_path)
    for path in files.values():
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("中\t李明喜欢音乐。\n")
    assert probe_of(corpus, files, rows=20).task.labels == ("中", "坏", "好")


def test_rows_of_one_label_and_texts_too_long_are_refused_before_the_run(
    corpus: Path, tmp_path: Path
) -> None:
    files = write_rows(tmp_path)
    path = Path(files["train"])
    path.write_text(path.read_text(encoding="utf-8").replace("好\t", "坏\t"), encoding="utf-8")
    recipe = recipe_of(corpus, {"task": {"kind": "classify", "labels": ["坏", "好"]}, "data": files})
    with pytest.raises(DataError, match=r"train\.tsv: all 240 rows that the probe would learn from are '坏'"):
        plan(recipe)
    short = ModelRecipe(preset="bert-4l-312", values={**TINY, "max_length": 64})
    recipe = recipe_of(corpus, {"task": "classify", "data": write_rows(tmp_path)})
    with pytest.raises(ModelError, match="max_length 128: the model has learned 64 positions and knows no"):
        plan(recipe.model_copy(update={"model": short}))
