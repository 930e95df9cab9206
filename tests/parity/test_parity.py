"""The same numbers as transformers 4.57.6: states of every layer, heads, attention, gradients.

The committed golden files are small models; `make parity` makes them anew, and models of base width besides.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fenghuo.models import FAMILIES
from fenghuo.models.folder import load_with_report
from fenghuo.net.mask import left_to_right, right_to_left, sequence_to_sequence
from fenghuo.net.packing import Packing

WITHIN = 1e-5


@pytest.fixture(scope="module")
def model(folder):
    model, report = load_with_report(folder)
    assert report.unexpected == report.fresh == ()
    return model


IDS = {
    "token_type_ids": "segments",
    "task_type_ids": "tasks",
    "langs": "languages",
    "position_ids": "positions",
}


def shown(case):
    """(B, L) the pieces that are read."""
    mask = case["attention_mask"].bool()
    return mask if mask.dim() == 2 else mask.any(2)


def packed(case, model):
    """A padded case as flat pieces, and where (row, column) each one stood."""
    held, ids = shown(case), case["input_ids"]
    places = torch.arange(ids.shape[1]).expand_as(ids)
    if first := model.config.first_position:  # RoBERTa counts pieces, wherever they stand
        real = (ids != first - 1).long()
        places = real.cumsum(1) * real + first - 1
    batch = {"pieces": ids[held], "positions": places[held], "lengths": held.sum(1)}
    batch |= {ours: case[theirs][held] for theirs, ours in IDS.items() if theirs in case}
    if case["attention_mask"].dim() == 3:
        batch["allowed"] = torch.cat(
            [
                square[there][:, there].flatten()
                for square, there in zip(case["attention_mask"].bool(), held, strict=True)
            ]
        )
    flat_BL = torch.full(held.shape, -1)
    flat_BL[held] = torch.arange(int(held.sum()))
    return batch, flat_BL


def inputs(case):
    return {key: case[key] for key in ("input_ids", "attention_mask", *IDS) if key in case}


def test_every_layer_of_the_packed_encoder(golden, model, near):
    for name, case in golden.cases.items():
        batch, flat_BL = packed(case, model)
        with torch.no_grad():
            states = model.encode(batch, states=True).states
        at = flat_BL[tuple(case["at"].T)]
        assert len(states) == sum(key.startswith("state.") for key in case)
        for number, state_TD in enumerate(states):
            near(golden.folder.name, f"{name} states", state_TD[at], case[f"state.{number}"], within=WITHIN)


def test_the_padded_call(golden, model, near):
    group = golden.folder.name
    for name, case in golden.cases.items():
        with torch.no_grad():
            out = model(**inputs(case))
        rows, columns = case["at"].T
        last = max(key for key in case if key.startswith("state."))
        near(group, f"{name} last", out.last_hidden_state[rows, columns], case[last], within=WITHIN)
        near(group, f"{name} mlm", out.logits[rows[:8], columns[:8]], case["mlm"], within=WITHIN)
        if "pooled" in case:
            # transformers pools column 0 even where the mask hides it.
            there = shown(case)[:, 0]
            near(group, f"{name} pooled", out.pooler_output[there], case["pooled"][there], within=WITHIN)
            near(group, f"{name} pair", out.pair_logits[there], case["pair"][there], within=WITHIN)


def test_the_padded_layout_of_exports(golden, model, near):
    group = golden.folder.name
    for name, case in golden.cases.items():
        with torch.no_grad():
            out = model.forward_padded(**inputs(case))
        rows, columns = case["at"].T
        last = max(key for key in case if key.startswith("state."))
        found = out.last_hidden_state[rows, columns]
        near(group, f"{name} last, for export", found, case[last], within=WITHIN)
        if "pooled" in case:
            there = shown(case)[:, 0]
            mine, theirs = out.pooler_output[there], case["pooled"][there]
            near(group, f"{name} pooled, for export", mine, theirs, within=WITHIN)


def test_unilms_four_masks_are_made_from_lengths_and_segments(golden, model):
    """The masks of net/mask.py are the squares that transformers was given."""
    made = 0
    for name, case in golden.cases.items():
        if case["attention_mask"].dim() != 3:
            continue
        batch, _ = packed(case, model)
        packing = Packing.of(batch["lengths"])
        length_T = batch["lengths"][packing.sequence_T]
        target_T = (packing.positions_T >= (length_T + 2) // 3).long()
        masks = {
            "bidirectional": torch.ones_like(batch["allowed"]),
            "left-to-right": left_to_right(packing),
            "right-to-left": right_to_left(packing),
            "sequence-to-sequence": sequence_to_sequence(packing, target_T),
        }
        assert torch.equal(masks[name.removeprefix("padded-")], batch["allowed"])
        made += 1
    assert made == (4 if golden.folder.name == "unilm" else 0)


def test_scores_give_the_attention(golden, model, near):
    for name, case in golden.cases.items():
        layers = [int(key.split(".")[1]) for key in case if key.startswith("attention.")]
        if not layers:
            continue
        rows, length = case["input_ids"].shape
        scores = model.encode(packed(case, model)[0], scores=layers).scores
        for layer in layers:
            score = scores[layer].detach().view(-1, rows, length, length).transpose(0, 1)
            theirs = case[f"attention.{layer}"]
            near(golden.folder.name, f"{name} attention", score.softmax(-1), theirs, within=WITHIN)


def test_gradients_in_training_mode_without_dropout(golden, model, near):
    family = FAMILIES[model.family]
    for name, case in golden.cases.items():
        if "loss" not in case:
            continue
        batch, _ = packed(case, model)
        model.train().zero_grad()
        encoded = model.encode(batch)
        labels = case["labels"][shown(case)]
        loss = F.cross_entropy(model.mlm(encoded.last_TD), labels, reduction="sum")
        if model.pair is not None:
            loss = loss + F.cross_entropy(model.pair(model.pooled(encoded)), case["pairs"], reduction="sum")
        loss.backward()
        model.eval()
        torch.testing.assert_close(loss.detach(), case["loss"], rtol=1e-5, atol=0)
        checked = 0
        for ours, parameter in model.named_parameters():
            theirs = f"gradient.{family.theirs(ours)}"
            if parameter.grad is None:  # a pooler that no head reads
                assert f"{theirs}.norm" not in case
                continue
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
