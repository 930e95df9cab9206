"""Models with fewer pieces: the same numbers for every family, and configurations that still name the right pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fenghuo.models import FAMILIES
from fenghuo.models.cut import bound_pieces, cut_vocabulary
from fenghuo.models.folder import build, load_model, save_model
from fenghuo.net.config import HeadsConfig
from fenghuo.net.model import Model

SHAPE = {"layers": 2, "heads": 2, "width": 16, "inner_width": 24, "initializer_range": 0.3}
MORE = {
    "albert": {"embed_width": 8},
    "albert_zh": {"embed_width": 8},
    "ernie": {"tasks": 3},
    "ernie_thu": {"layer_types": ("norm", "mix"), "entity_width": 8, "entity_heads": 2},
    "xlm": {"languages": 2, "inner_width": 64},
    "transfo-xl": {"cutoffs": (10, 25), "cutoff_divisor": 2, "memory": 4},
}
VOCAB = 60


def made(family: str, heads: HeadsConfig, **more: object) -> Model:
    values = {**SHAPE, **MORE.get(family, {}), **more}
    if FAMILIES[family].defaults.get("position") == "learned":
        values["max_length"] = 32
    model = build(None, family=family, values=values, vocab=VOCAB, heads=heads, seed=1).eval()
    with torch.no_grad():  # biases begin at 0, where a wrong row would not be seen
        for name, weight in model.named_parameters():
            if name.startswith("mlm.") and name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
    return model


def some_of(model: Model) -> torch.Tensor:
    rng = np.random.default_rng(3)
    chosen = set(rng.choice(VOCAB, 22, replace=False).tolist()) | set(bound_pieces(model))
    return torch.tensor(sorted(chosen))


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_every_family_computes_the_same_for_kept_pieces(family: str, tmp_path: Path) -> None:
    whole = made(family, HeadsConfig(pooler=FAMILIES[family].pooler, mlm=True))
    kept = some_of(whole)
    save_model(cut_vocabulary(whole, kept), tmp_path)
    smaller = load_model(tmp_path)
    assert smaller.config.vocab == len(kept)
    ids = torch.randint(len(kept), (3, 12), generator=torch.Generator().manual_seed(4))
    before, after = whole(kept[ids]), smaller(ids)
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)
    if before.pooler_output is not None:
        assert torch.equal(before.pooler_output, after.pooler_output)
    wanted = before.logits[..., kept]
    if family != "transfo-xl":
        torch.testing.assert_close(after.logits, wanted, rtol=0, atol=1e-6)
        return
    assert whole.config.cutoffs != smaller.config.cutoffs
    torch.testing.assert_close(after.logits.exp().sum(-1), torch.ones(3, 12), rtol=0, atol=1e-5)
    spans = [0, *smaller.config.cutoffs, len(kept)]
    for low, high in pairwise(spans):  # within a cluster only the sum has changed
        change = (after.logits - wanted)[..., low:high]
        torch.testing.assert_close(change, change[..., :1].expand_as(change), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"transfo-xl"}))  # its files have no task head
@pytest.mark.parametrize("task", ["classify", "tag"])
@torch.inference_mode()
def test_task_heads_answer_as_before(family: str, task: str, tmp_path: Path) -> None:
    heads = HeadsConfig(pooler=FAMILIES[family].pooler, task=task, outputs=3)  # type: ignore[arg-type]
    whole = made(family, heads)
    whole.extra = {"id2label": {"0": "好", "1": "坏", "2": "平"}, "fenghuo": {"task": {"kind": task}}}
    kept = some_of(whole)
    save_model(cut_vocabulary(whole, kept), tmp_path)
    smaller = load_model(tmp_path)
    ids = torch.randint(len(kept), (3, 12), generator=torch.Generator().manual_seed(4))
    assert torch.equal(whole(kept[ids]).logits, smaller(ids).logits)
    assert smaller.extra["id2label"] == whole.extra["id2label"]
    assert smaller.extra["fenghuo"] == whole.extra["fenghuo"]


def test_one_table_with_clusters_is_cut_too() -> None:
    whole = made("transfo-xl", HeadsConfig(pooler=False, mlm=True), cutoff_divisor=1)
    kept = some_of(whole)
    ids = torch.arange(len(kept))[None]
    with torch.inference_mode():
        after, before = cut_vocabulary(whole, kept)(ids), whole(kept[ids])
    assert torch.equal(after.last_hidden_state, before.last_hidden_state)
    assert after.logits.shape[-1] == len(kept)


def test_numbers_that_the_configuration_names_are_followed(tmp_path: Path) -> None:
    whole = made("bert", HeadsConfig(mlm=True))
    whole.extra = {"pad_token_id": 0, "mask_token_id": 50, "bos_token_id": 20}
    assert bound_pieces(whole) == [0, 20, 50]
    save_model(cut_vocabulary(whole, torch.tensor([0, 5, 20, 50, 51])), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["pad_token_id"], config["bos_token_id"], config["mask_token_id"]) == (0, 2, 3)
    assert config["vocab_size"] == 5


def test_what_a_family_takes_for_granted_stays_in_its_place() -> None:
    assert bound_pieces(made("roberta", HeadsConfig())) == [0, 1, 2]
    assert bound_pieces(made("xlm", HeadsConfig(pooler=False))) == list(range(6))
    assert bound_pieces(made("transfo-xl", HeadsConfig(pooler=False))) == [0, 10, 25]
