"""A batch whose loss is no number, or jumps: it is named, and the run goes on from before it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pretrain.processes import TINY, WEIGHTS, Runs
from tests.pretrain.spoiled import spoil

import fenghuo.pretrain.run as pretrain_run
from fenghuo.config import build_recipe
from fenghuo.errors import DivergedError, RunError
from fenghuo.models.folder import load_model
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.rundir import RunDir

BAD = 25
"""The step that asks the bad batch."""


def recipe_of(corpus: Path, **train: Any) -> PretrainRecipe:
    return build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"preset": "nezha-4l-312", "values": TINY},
            "max_length": 32,
            "batch": {"pieces": 64},
            "optimizer": {"learning_rate": 3e-3},
            "train": {"steps": BAD + 5, "seed": 3, "save_every": 10, "log_every": 5, **train},
        },
    )


def pretrain(recipe: PretrainRecipe, out: Path) -> None:
    folder = RunDir.open(out, verb="pretrain", recipe=recipe)
    try:
        pretrain_run.run(recipe, folder)
    finally:
        folder.close()


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a loss is multiplied with where the batch is the `BAD`th of the first epoch."""
    factor = {"now": math.nan}
    spoil(BAD, factor, put=monkeypatch.setattr)
    return factor


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "why"),
    [
        (math.nan, "loss nan, gradient norm nan"),
        (50.0, r"loss \d+\.?\d*, where the median of the last 24 is \d\.\d+"),
    ],
)
def test_it_is_named_and_left_out(
    corpus: Path, tmp_path: Path, spoiled: dict[str, float], factor: float, why: str
) -> None:
    spoiled["now"] = factor
    recipe, out = recipe_of(corpus), tmp_path / "run"
    for _ in range(2):  # the same command meets the same batch, and has lost nothing meanwhile
        with pytest.raises(
            DivergedError, match=rf"(?s)step {BAD}: {why}, from the batch at .*--train\.skip"
        ) as told:
            pretrain(recipe, out)
        assert (out / "checkpoints" / f"step-{BAD - 1}").is_dir()
    record = json.loads((out / "diverged.json").read_text())
    assert record["step"] == BAD
    assert (record["batches"][0]["epoch"], record["batches"][0]["batch"]) == (0, BAD - 1)
    assert {"index", "shard", "begin", "pieces"} == record["batches"][0]["examples"][0].keys()
    skip = json.loads(str(told.value).partition("--train.skip '")[2].partition("'")[0])
    assert skip == [record["at"]]

    going_on = recipe_of(corpus, skip=skip)
    pretrain(going_on, out)
    log = (out / "log.txt").read_text()
    assert f"going on after step {BAD - 1} of {BAD + 5}" in log
    assert "is left out, as train.skip says" in log
    assert "train.skip" in log.partition("going on with another recipe than before: ")[2].splitlines()[0]
    # The same as a run that knew of it from the start: no weight and no moment was touched.
    pretrain(going_on, tmp_path / "whole")
    left = load_model(out / "model").state_dict()
    right = load_model(tmp_path / "whole" / "model").state_dict()
    assert all(torch.equal(left[name], right[name]) for name in right)


@pytest.mark.slow
def test_a_jump_is_taken_where_the_recipe_has_no_bound(
    corpus: Path, tmp_path: Path, spoiled: dict[str, float]
) -> None:
    spoiled["now"] = 50.0
    pretrain(recipe_of(corpus, jump=None), tmp_path / "run")
    assert not (tmp_path / "run" / "diverged.json").exists()


def test_no_other_key_may_change(corpus: Path, tmp_path: Path) -> None:
    RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe_of(corpus)).close()
    with pytest.raises(RunError, match=r"train\.seed \(3 there, 4 asked\)$"):
        RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe_of(corpus, seed=4, skip=[[0, 1]]))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_ranks_end_together_and_one_of_them_names_it(corpus: Path, tmp_path: Path, parallel: str) -> None:
    """What the second of two ranks has of the batch is bad; its loss jumps, or is no number."""
    runs = Runs(corpus, tmp_path, steps=BAD + 3, save_every=10)
    flags = ("--train.parallel", parallel)
    out, bad = runs.home / "run", {"spoiled": {"step": BAD, "factor": 100.0, "rank": 1}}
    try:
        assert runs.wait(runs.start(out, 2, *flags, **bad)) == [1, 1]
        bad["spoiled"]["factor"] = math.nan
        assert runs.wait(runs.start(out, 2, *flags, **bad)) == [1, 1]
        told = [runs.told(out, rank).read_text() for rank in (0, 1)]
        assert "step 25" not in told[1]
        assert "Traceback" not in "".join(told)
        named = r"fenghuo pretrain \(rank 0 of 2.*\): step 25: loss \d.*, where the median of the last 24"
        assert len(re.findall(named, told[0])) == 1
        assert told[0].count("step 25: loss nan, gradient norm nan, from the batch at [0, 0, 24, 24]") == 1
        record = json.loads((out / "diverged.json").read_text())
        assert record["at"] == [0, 0, BAD - 1, BAD - 1]
        skip = (*flags, "--train.skip", json.dumps([record["at"]]))
        assert runs.wait(runs.start(out, 2, *skip, **bad)) == [0, 0]
        assert runs.wait(runs.start(runs.home / "whole", 2, *skip)) == [0, 0]
    finally:
        runs.close()
    assert (out / WEIGHTS).read_bytes() == (runs.home / "whole" / WEIGHTS).read_bytes()
