"""The same numbers as transformers 4.57.6: states of every layer, heads, attention, gradients.

The committed golden files are small models; `make parity` makes them anew, and models of base width besides.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fenghuo.models import FAMILIES
from fenghuo.models.folder import load_with_report

WITHIN = 1e-5


@pytest.fixture(scope="module")
def model(folder):
    model, report = load_with_report(folder)
    assert report.unexpected == report.fresh == ()
    return model


def packed(case):
    """A padded case as flat pieces, and where (row, column) each one stood."""
    held = case["attention_mask"].bool()
    batch = {
        "pieces": case["input_ids"][held],
        "segments": case["token_type_ids"][held],
        "positions": held.nonzero()[:, 1],
        "lengths": held.sum(1),
    }
    flat_BL = torch.full(held.shape, -1)
    flat_BL[held] = torch.arange(int(held.sum()))
    return batch, flat_BL


def inputs(case):
    return {key: case[key] for key in ("input_ids", "attention_mask", "token_type_ids")}


def test_every_layer_of_the_packed_encoder(golden, model, near):
    for name, case in golden.cases.items():
        batch, flat_BL = packed(case)
        with torch.no_grad():
            states = model.encode(batch, states=True).states
        at = flat_BL[tuple(case["at"].T)]
        assert len(states) == sum(key.startswith("state.") for key in case)
        for number, state_TD in enumerate(states):
            near(golden.folder.name, f"{name} states", state_TD[at], case[f"state.{number}"], within=WITHIN)


def test_the_padded_call(golden, model, near):
    for name, case in golden.cases.items():
        with torch.no_grad():
            out = model(**inputs(case))
        rows, columns = case["at"].T
        last = max(key for key in case if key.startswith("state."))
        near(
            golden.folder.name,
            f"{name} last",
            out.last_hidden_state[rows, columns],
            case[last],
            within=WITHIN,
        )
        near(golden.folder.name, f"{name} mlm", out.logits[rows[:8], columns[:8]], case["mlm"], within=WITHIN)
        # transformers pools column 0 even where the mask hides it.
        shown = case["attention_mask"][:, 0].bool()
        near(
            golden.folder.name,
            f"{name} pooled",
            out.pooler_output[shown],
            case["pooled"][shown],
            within=WITHIN,
        )
        near(golden.folder.name, f"{name} pair", out.pair_logits[shown], case["pair"][shown], within=WITHIN)


def test_the_padded_layout_of_exports(golden, model, near):
    for name, case in golden.cases.items():
        with torch.no_grad():
            out = model.forward_padded(**inputs(case))
        rows, columns = case["at"].T
        last = max(key for key in case if key.startswith("state."))
        found = out.last_hidden_state[rows, columns]
        near(golden.folder.name, f"{name} last, for export", found, case[last], within=WITHIN)
        near(
            golden.folder.name, f"{name} pooled, for export", out.pooler_output, case["pooled"], within=WITHIN
        )


def test_scores_give_the_attention(golden, model, near):
    for name, case in golden.cases.items():
        layers = [int(key.split(".")[1]) for key in case if key.startswith("attention.")]
        if not layers:
            continue
        rows, length = case["input_ids"].shape
        scores = model.encode(packed(case)[0], scores=layers).scores
        for layer in layers:
            score = scores[layer].detach().view(-1, rows, length, length).transpose(0, 1)
            theirs = case[f"attention.{layer}"]
            near(golden.folder.name, f"{name} attention", score.softmax(-1), theirs, within=WITHIN)


def test_gradients_in_training_mode_without_dropout(golden, model, near):
    family = FAMILIES[model.family]
    for name, case in golden.cases.items():
        if "loss" not in case:
            continue
        batch, _ = packed(case)
        model.train().zero_grad()
        encoded = model.encode(batch)
        labels = case["labels"][case["attention_mask"].bool()]
        loss = F.cross_entropy(model.mlm(encoded.last_TD), labels, reduction="sum")
        loss = loss + F.cross_entropy(model.pair(model.pooled(encoded)), case["pairs"], reduction="sum")
        loss.backward()
        model.eval()
        torch.testing.assert_close(loss.detach(), case["loss"], rtol=1e-5, atol=0)
        checked = 0
        for ours, parameter in model.named_parameters():
            theirs = f"gradient.{family.theirs(ours)}"
            norm, flat = case[f"{theirs}.norm"], parameter.grad.flatten()
            # A key's bias moves all scores of a query alike, which the softmax ignores: its gradient is
            # rounding, so differences are measured on the scale of the other gradients.
            scale = max(float(norm), 0.1)
            some = flat[:: max(1, len(flat) // 32)][:32]
            wanted = case[f"{theirs}.some"]
            near(golden.folder.name, f"{name} gradients", some / scale, wanted / scale, within=1e-4)
            assert abs(float(flat.norm()) - float(norm)) <= 1e-4 * scale, ours
            checked += 1
        assert checked == sum(key.endswith(".norm") for key in case)
