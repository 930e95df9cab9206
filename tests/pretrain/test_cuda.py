"""A CUDA card does what the CPU does. Where torch sees none these tests are skipped; CI has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pretrain.test_run import recipe_of

from fenghuo.models.folder import build
from fenghuo.net.config import HeadsConfig
from fenghuo.net.packing import Packing
from fenghuo.pretrain.run import run
from fenghuo.rundir import RunDir

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA card")
TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
TINY |= {"dropout": 0.0, "attention_dropout": 0.0}


@pytest.mark.parametrize("family", ["nezha", "bert"])
@pytest.mark.parametrize("lengths", [[40, 40], [7, 90, 31, 33]])
@pytest.mark.parametrize("gaps", [False, True])
def test_states_scores_and_gradients_are_the_cpus(family: str, lengths: list[int], gaps: bool) -> None:
    torch.manual_seed(0)
    model = build(None, family=family, values=TINY, vocab=50, heads=HeadsConfig(), seed=0).encoder
    pieces_T = torch.randint(5, 50, (sum(lengths),))
    places_T = Packing.of(lengths).positions_T * 2 if gaps else None
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad(set_to_none=True)
        packing = Packing.of(lengths, device=device)
        places = None if places_T is None else places_T.to(device)
        out = model(pieces_T.to(device), packing, positions_T=places, scores=[1])
        (out.last_TD.square().sum() + out.scores[1].square().sum()).backward()
        gradients = [
            weight.grad.to("cpu", copy=True) for weight in model.parameters() if weight.grad is not None
        ]
        found.append(
            [
                out.last_TD.detach().to("cpu", copy=True),
                out.scores[1].detach().to("cpu", copy=True),
                *gradients,
            ]
        )
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()) + 1e-4)


def losses(corpus: Path, out: Path, **train: Any) -> list[float]:
    recipe = recipe_of(corpus, steps=20, log_every=1, **train)
    values = recipe.model.model_copy(update={"values": TINY})
    recipe = recipe.model_copy(update={"model": values})
    run(recipe, RunDir.open(out, verb="pretrain", recipe=recipe))
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_a_run_begins_with_the_cpus_losses_and_repeats_itself(corpus: Path, tmp_path: Path) -> None:
    on_cpu = losses(corpus, tmp_path / "cpu", device="cpu")
    first, again = (losses(corpus, tmp_path / name, device="cuda") for name in ("first", "again"))
    assert first[0] == pytest.approx(on_cpu[0], rel=1e-5)
    assert first == pytest.approx(on_cpu, rel=1e-3)
    assert first == again
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("first", "again")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("train", [{"precision": "bf16"}, {"precision": "fp16"}, {"compile": True}], ids=str)
def test_half_precision_and_compiled_layers_stay_near(
    corpus: Path, tmp_path: Path, train: dict[str, Any]
) -> None:
    exact, near = losses(corpus, tmp_path / "exact"), losses(corpus, tmp_path / "near", **train)
    assert near == pytest.approx(exact, rel=2e-2)
