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
import torch
from tests.pretrain.conftest import write_rows
from tests.pretrain.in_ranks import main

from fenghuo.config import build_recipe, dump_recipe
from fenghuo.models.folder import load_model
from fenghuo.pretrain.recipe import PretrainRecipe

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
STILL = {**TINY, "dropout": 0.0, "attention_dropout": 0.0}
SEEDS = (1, 2, 3)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"train": {"steps": 50}},
    # Three examples a batch: the fourth rank has none. One example a micro-batch: ranks have different numbers.
    "uneven": {"batch": {"rows": 3, "micro_pieces": 8}, "train": {"steps": 6}},
    # Norms over the whole of a cut tensor; slow weights that an evaluation sees in between.
    "lamb": {
        "optimizer": {"name": "lamb", "learning_rate": 3e-2, "lookahead": {"steps": 3}},
        "train": {"steps": 12, "evaluate_every": 2, "recompute": True},
    },
    "phases": {
        "phases": [{"max_length": 16, "share": 0.5}, {"max_length": 32, "share": 0.5}],
        "train": {"steps": 12, "precision": "fp16"},
    },
    "elastic": {"train": {"steps": 50}},
    **{f"drop-{seed}": {"values": TINY, "train": {"steps": 150, "seed": seed}} for seed in SEEDS},
    # Weights stay as they are drawn, so that what is held out tells of the evaluation alone.
    "still": {"train": {"steps": 1}, "optimizer": {"learning_rate": 1e-12}},
}
JOBS = {
    2: [
        ("still", "ddp"),
        ("still", "fsdp"),
        ("plain", "ddp"),
        ("plain", "fsdp"),
        ("lamb", "fsdp"),
        ("phases", "ddp"),
        *((f"drop-{seed}", "ddp") for seed in SEEDS),
        ("elastic", "ddp"),
    ],
    1: [
        ("still", "ddp"),
        ("plain", "ddp"),
        ("uneven", "ddp"),
        ("lamb", "ddp"),
        ("phases", "ddp"),
        *((f"drop-{seed}", "ddp") for seed in SEEDS),
        ("elastic", "ddp"),
    ],
    4: [
        ("still", "ddp"),
        ("still", "fsdp"),
        ("plain", "ddp"),
        ("uneven", "ddp"),
        ("uneven", "fsdp"),
        ("elastic", "fsdp"),
    ],
}
# Of two ranks the second alone hears the signal, and both stop after the same step.
STOPS: dict[int, dict[str, int]] = {2: {"stop_after": 11, "stopped_rank": 1}, 1: {"stop_after": 30}, 4: {}}


def write_recipe(file: Path, corpus: Path, kind: str, parallel: str) -> None:
    values = {
        "corpus": str(corpus),
        "model": {"preset": "nezha-4l-312", "values": KINDS[kind].get("values", STILL)},
        "max_length": 32,
        "phases": KINDS[kind].get("phases", []),
        "batch": KINDS[kind].get("batch", {"pieces": 256}),
        "optimizer": KINDS[kind].get("optimizer", {"learning_rate": 3e-3}),
        "probe": {"task": "classify", "data": write_rows(file.parent)} if kind == "still" else None,
        "train": {
            **{"seed": 3, "save_every": 1000, "log_every": 1, "evaluate_every": 1000, "parallel": parallel},
            **KINDS[kind]["train"],
        },
    }
    file.write_text(dump_recipe(build_recipe(PretrainRecipe, values)), encoding="utf-8")


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `<kind>-<ddp|fsdp>-<world>`; that of `elastic` went from two ranks over one to four."""
    home = tmp_path_factory.mktemp("ranks")
    for world, wanted in JOBS.items():
        jobs: list[dict[str, Any]] = []
        for kind, parallel in wanted:
            recipe = home / f"{kind}-{parallel}.yaml"
            write_recipe(recipe, corpus, kind, parallel)
            jobs.append({"recipe": str(recipe), "out": str(home / f"{kind}-{parallel}-{world}")})
        jobs[-1] |= {"out": str(home / "elastic"), **STOPS[world]}
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


def of_steps(run: Path, key: str) -> np.ndarray:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = {line["step"]: line[key] for line in lines if key in line}
    assert sorted(trained) == list(range(1, len(trained) + 1))
    return np.array([trained[step] for step in sorted(trained)])


def losses(run: Path) -> np.ndarray:
    return of_steps(run, "train/loss")


def global_batches(run: Path) -> list[tuple[tuple[int, int], list[int]]]:
    """(cursor, its examples) in the order in which the ranks met them; no example twice in a batch."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for file in sorted(run.glob("seen-*.json")):
        for epoch, batch, index in json.loads(file.read_text()):
            found[epoch, batch].append(index)
    assert all(len(set(indices)) == len(indices) for indices in found.values())
    return [(cursor, sorted(indices)) for cursor, indices in found.items()]


@pytest.mark.parametrize(
    ("world", "kind", "parallel"),
    [(world, *job) for world in (2, 4) for job in JOBS[world] if job[0] in ("plain", "uneven", "lamb")],
)
def test_ranks_follow_the_curve_of_one_process(runs: Path, kind: str, parallel: str, world: int) -> None:
    alone, shared = runs / f"{kind}-ddp-1", runs / f"{kind}-{parallel}-{world}"
    assert global_batches(shared) == global_batches(alone)
    wanted, found = losses(alone), losses(shared)
    apart = np.abs(found / wanted - 1)
    print(f"{kind} {parallel} {world}: first {apart[0]:.1e}, first {len(apart)} {apart.max():.1e}")
    assert apart[0] < 1e-5
    assert apart.max() < 1e-3


def test_ranks_follow_one_process_through_phases_in_fp16(runs: Path) -> None:
    alone, shared = runs / "phases-ddp-1", runs / "phases-ddp-2"
    apart = np.abs(losses(shared) / losses(alone) - 1)
    print(f"phases, fp16: first {apart[0]:.1e}, first {len(apart)} {apart.max():.1e}")
    assert apart.max() < 1e-3
    for run in (alone, shared):
        # Gradients of ranks are larger until their mean is taken, and may overflow where those of one process do not.
        assert of_steps(run, "train/skipped")[-1] == 0
        assert json.loads((run / "checkpoints" / "step-12" / "state.json").read_text())["cursor"][0] == 1


def test_with_dropout_curves_differ_less_by_ranks_than_by_seeds(runs: Path) -> None:
    """Ranks draw other dropout than one process. Of the means over 50 steps, those of a seed lie closer together."""
    curves = {
        world: np.array([losses(runs / f"drop-{seed}-ddp-{world}").reshape(3, 50).mean(1) for seed in SEEDS])
        for world in (1, 2)
    }
    between_seeds = curves[1].std(0, ddof=1)
    between_worlds = np.sqrt(((curves[2] - curves[1]) ** 2).mean(0) / 2)
    print(f"standard deviations: seeds {between_seeds.round(4)}, one rank or two {between_worlds.round(4)}")
    assert (between_worlds > 0).all()
    assert (between_worlds < between_seeds).all()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_an_evaluation(runs: Path, parallel: str, world: int) -> None:
    def figures(run: str) -> dict[str, float]:
        found: dict[str, float] = json.loads((runs / run / "result.json").read_text())["figures"]
        return found

    alone = figures("still-ddp-1")
    probe = {"probe_accuracy", "probe_macro_f1"}
    assert {"loss", "mlm_accuracy", "mlm_word_accuracy", "pseudo_perplexity"} | probe == alone.keys()
    assert figures(f"still-{parallel}-{world}") == pytest.approx(alone, rel=1e-6)


def test_a_run_goes_on_with_another_number_of_ranks(runs: Path) -> None:
    assert sorted(global_batches(runs / "elastic")) == sorted(global_batches(runs / "plain-ddp-1"))
    apart = np.abs(losses(runs / "elastic") / losses(runs / "plain-ddp-1") - 1)
    print(f"elastic: {apart.max():.1e}")
    assert apart.max() < 1e-3
    log = (runs / "elastic" / "log.txt").read_text()
    assert "going on after step 12 of 50" in log or "going on after step 11 of 50" in log
    assert "going on after step 30 of 50" in log


def test_a_head_that_nothing_asks_stays_as_it_was_drawn(runs: Path) -> None:
    """Weight decay would shrink it under FSDP2, which gives it gradients of zero."""
    names = ("plain-ddp-1", "plain-ddp-2", "plain-fsdp-2", "elastic")
    weights = [load_model(runs / name / "model").state_dict()["pooler.dense.weight"] for name in names]
    assert all(torch.equal(weights[0], other) for other in weights[1:])
