"""Pretraining in 1, 2 and 4 processes of this machine, over gloo: the same batches, the same curve."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pretrain.in_ranks import main

from fenghuo.config import build_recipe, dump_recipe
from fenghuo.pretrain.recipe import PretrainRecipe

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
STILL = {**TINY, "dropout": 0.0, "attention_dropout": 0.0}
WORLDS = (1, 2, 4)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"batch": {"pieces": 256}, "train": {"steps": 50}},
    # Three examples a batch: the fourth rank has none. One example a micro-batch: ranks have different numbers.
    "uneven": {"batch": {"rows": 3, "micro_pieces": 8}, "train": {"steps": 20}},
    "elastic": {"batch": {"pieces": 256}, "train": {"steps": 50}},
}


def write_recipe(file: Path, corpus: Path, kind: str, parallel: str) -> None:
    values = {
        "corpus": str(corpus),
        "model": {"preset": "nezha-4l-312", "values": STILL},
        "max_length": 32,
        "batch": KINDS[kind]["batch"],
        "optimizer": {"learning_rate": 3e-3},
        "train": {
            "seed": 3,
            "save_every": 1000,
            "log_every": 1,
            **KINDS[kind]["train"],
            "parallel": parallel,
        },
    }
    file.write_text(dump_recipe(build_recipe(PretrainRecipe, values)), encoding="utf-8")


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `<kind>-<ddp|fsdp>-<world>`; that of `elastic` went from two ranks over one to four."""
    home = tmp_path_factory.mktemp("ranks")
    for world in (2, 1, 4):
        jobs = []
        for kind in ("plain", "uneven"):
            for parallel in ("ddp", "fsdp") if world > 1 else ("ddp",):
                recipe = home / f"{kind}-{parallel}.yaml"
                write_recipe(recipe, corpus, kind, parallel)
                jobs.append({"recipe": str(recipe), "out": str(home / f"{kind}-{parallel}-{world}")})
        # Of two ranks the second alone hears the signal, and both stop after the same step.
        stops = {2: {"stop_after": 11, "stopped_rank": 1}, 1: {"stop_after": 30}, 4: {}}[world]
        recipe = home / f"elastic-{'fsdp' if world == 4 else 'ddp'}.yaml"
        write_recipe(recipe, corpus, "elastic", "fsdp" if world == 4 else "ddp")
        jobs.append({"recipe": str(recipe), "out": str(home / "elastic"), **stops})
        list_of_jobs = home / f"jobs-{world}.json"
        list_of_jobs.write_text(json.dumps(jobs))
        if world == 1:
            main(jobs)
        else:
            command = ["-m", "torch.distributed.run", "--nproc-per-node", str(world)]
            done = subprocess.run(
                [sys.executable, *command, str(HERE / "in_ranks.py"), str(list_of_jobs)],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    return home


def losses(run: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert sorted(trained) == list(range(1, len(trained) + 1))
    return np.array([trained[step] for step in sorted(trained)])


def global_batches(run: Path) -> list[tuple[tuple[int, int], list[int]]]:
    """(cursor, its examples) in the order in which the ranks met them; no example twice in a batch."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for file in sorted(run.glob("seen-*.json")):
        for epoch, batch, index in json.loads(file.read_text()):
            found[epoch, batch].append(index)
    assert all(len(set(indices)) == len(indices) for indices in found.values())
    return [(cursor, sorted(indices)) for cursor, indices in found.items()]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", ["plain", "uneven"])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_follow_the_curve_of_one_process(runs: Path, kind: str, parallel: str, world: int) -> None:
    alone, shared = runs / f"{kind}-ddp-1", runs / f"{kind}-{parallel}-{world}"
    assert global_batches(shared) == global_batches(alone)
    wanted, found = losses(alone), losses(shared)
    apart = np.abs(found / wanted - 1)
    print(f"{kind} {parallel} {world}: first {apart[0]:.1e}, first {len(apart)} {apart.max():.1e}")
    assert apart[0] < 1e-5
    assert apart.max() < 1e-3


def test_a_run_goes_on_with_another_number_of_ranks(runs: Path) -> None:
    assert sorted(global_batches(runs / "elastic")) == sorted(global_batches(runs / "plain-ddp-1"))
    apart = np.abs(losses(runs / "elastic") / losses(runs / "plain-ddp-1") - 1)
    print(f"elastic: {apart.max():.1e}")
    assert apart.max() < 1e-3
    log = (runs / "elastic" / "log.txt").read_text()
    assert "going on after step 12 of 50" in log or "going on after step 11 of 50" in log
    assert "going on after step 30 of 50" in log
