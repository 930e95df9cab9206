"""The entity stream: who hears whom, what is refused, and what becomes of sequences that name nothing."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.entity import packed_entities
from fenghuo.net.heads import EntityHead
from fenghuo.net.initial import build_model
from fenghuo.net.mask import left_to_right
from fenghuo.net.packing import Packing

KINDS = {"layers": 3, "entity_width": 8, "entity_heads": 2, "layer_types": ("sim", "mix", "norm")}


def batch_of(lengths, share=0.4):
    total = sum(lengths)
    return {
        "pieces": torch.randint(31, (total,)),
        "lengths": torch.tensor(lengths),
        "entities": torch.randn(total, 8),
        "entity_mask": torch.rand(total) < share,
    }


def big_weights(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    return model


@pytest.fixture
def model(tiny):
    return big_weights(build_model(tiny(**KINDS), HeadsConfig(), seed=0)).eval()


def test_what_stands_under_the_mask_is_not_read_by_the_pieces(model):
    batch = batch_of([9, 4, 7])
    noise = torch.randn(20, 8) * ~batch["entity_mask"][:, None]
    other = model.encode({**batch, "entities": batch["entities"] + noise})
    torch.testing.assert_close(model.encode(batch).last_TD, other.last_TD)


def test_entities_are_heard_by_pieces_that_name_none(model):
    batch = batch_of([9])
    batch["entity_mask"] = torch.arange(9) == 2
    changed = {**batch, "entities": batch["entities"] + (torch.arange(9) == 2)[:, None]}
    assert bool((model.encode(batch).last_TD - model.encode(changed).last_TD).abs().amax(1).gt(1e-4).all())


@pytest.mark.parametrize("training", [False, True])
def test_sequences_that_name_nothing_are_harmless(tiny, training):
    """In training mode attention takes another way of computing; nothing is dropped, so that it can be compared."""
    values = {**KINDS, "dropout": 0.0, "attention_dropout": 0.2 if training else 0.0}
    model = big_weights(build_model(tiny(**values), HeadsConfig(), seed=0)).train(training)
    batch = batch_of([9, 0, 4, 7])
    batch["entity_mask"][:13] = False
    batch["entity_mask"][15] = True
    encoded = model.encode(batch, states=True)
    assert all(x.isfinite().all() for x in (*encoded.states, *encoded.entity_states))
    encoded.last_TD.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    batch["entity_mask"][:] = False
    assert model.encode(batch).last_TD.isfinite().all()


@pytest.mark.parametrize("shape", [(2, 5), (0, 5), (2, 0)])
def test_a_batch_without_pieces_is_harmless(model, shape):
    out = model(torch.zeros(shape, dtype=torch.long), torch.zeros(shape))
    assert out.last_hidden_state.shape == (*shape, 8)


def test_a_sequence_is_the_same_alone_and_in_company(model):
    batch = batch_of([7, 3, 12, 12, 1])
    together = model.encode(batch, states=True)
    start = 0
    for length in batch["lengths"].tolist():
        part = slice(start, start + length)
        alone = {name: x[part] for name, x in batch.items() if name != "lengths"}
        out = model.encode({**alone, "lengths": torch.tensor([length])}, states=True)
        torch.testing.assert_close(together.last_TD[part], out.last_TD)
        torch.testing.assert_close(together.entity_states[-1][part], out.entity_states[-1])
        start += length


def test_the_mask_of_pairs_holds_for_entities_too(model):
    """Left to right, no later entity may tell an earlier piece anything."""
    batch, packing = batch_of([8, 5]), Packing.of([8, 5])
    batch["allowed"] = left_to_right(packing)
    batch["entity_mask"][:] = True
    later = packing.positions_T >= 4
    out = model.encode(batch).last_TD
    changed = {**batch, "entities": batch["entities"] + later[:, None]}
    other = model.encode(changed).last_TD
    torch.testing.assert_close(out[~later], other[~later])
    assert not torch.allclose(out[later], other[later])
    square = torch.ones(8, 8).tril()[None]
    case = {"entities": batch["entities"][None, :8], "entity_mask": torch.ones(1, 8)}
    for call in (model, model.forward_padded):
        found = call(batch["pieces"][None, :8], square, **case).last_hidden_state[0]
        torch.testing.assert_close(found, out[:8], rtol=0, atol=1e-5)


def test_attention_s_dropout_falls_on_entities_too(tiny):
    model = big_weights(build_model(tiny(**KINDS, dropout=0.0, attention_dropout=0.5), HeadsConfig(), seed=0))
    stream = packed_entities(model.config, Packing.of([9]), torch.randn(9, 8), torch.ones(9), dropout=0.5)
    attentions = model.encoder.entity_attentions
    assert not torch.equal(stream.heard(2, attentions), stream.heard(2, attentions))


def test_autocast_in_bfloat16_trains(tiny):
    model = build_model(tiny(**KINDS), HeadsConfig(mlm=True, entity=True), seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = model.encode(batch_of([20, 4, 9]))
        loss = model.entity(encoded.last_TD, torch.randn(5, 8)).float().logsumexp(-1).mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.double().encode(batch_of([3])).last_TD.dtype == torch.float64


def test_the_first_loss_of_the_entity_head_is_the_log_of_the_choices(tiny):
    model = build_model(tiny(**KINDS), HeadsConfig(entity=True), seed=0).eval()
    logits = model.entity(model.encode(batch_of([30])).last_TD, torch.randn(400, 8) * 0.02)
    loss = nn.functional.cross_entropy(logits, torch.randint(400, (30,)))
    assert float(loss.detach()) == pytest.approx(5.99, rel=0.02)


class Last(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, entities, entity_mask):
        return self.model(
            input_ids, attention_mask, entities=entities, entity_mask=entity_mask
        ).last_hidden_state


@pytest.mark.slow
def test_torch_export_takes_entities(model):
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=64)}
    ids = torch.ones(2, 8, dtype=torch.int64)
    examples = (ids, torch.ones_like(ids), torch.randn(2, 8, 8), torch.ones_like(ids))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Last(model), examples, dynamic_shapes=(dims,) * 4)
    ids = torch.randint(31, (3, 21))
    other = (ids, torch.ones_like(ids), torch.randn(3, 21, 8), (torch.rand(3, 21) < 0.5).long())
    torch.testing.assert_close(program.module()(*other), Last(model)(*other), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"entities": torch.randn(2, 5, 7)},
            r"entities are \(2, 5, 7\) of torch.float32; they must be \(2, 5, 8\)",
        ),
        ({"entities": torch.ones(2, 5, 8, dtype=torch.long)}, "torch.int64; they must be"),
        ({"entity_mask": torch.ones(2, 4)}, r"entity_mask is \(2, 4\); it must be \(2, 5\)"),
        ({"entity_mask": None}, "entities and entity_mask go together"),
        ({"entities": None}, "entities and entity_mask go together"),
    ],
)
def test_entities_that_do_not_fit_are_named(model, changes, message):
    given = {"entities": torch.randn(2, 5, 8), "entity_mask": torch.ones(2, 5), **changes}
    for call in (model, model.forward_padded):
        with pytest.raises(ValueError, match=message):
            call(torch.randint(31, (2, 5)), **given)


def test_a_model_without_a_stream_refuses_entities(tiny):
    model = build_model(tiny(), HeadsConfig(), seed=0)
    with pytest.raises(ValueError, match="this model has no entity stream"):
        model.encode(batch_of([3]))
    with pytest.raises(ValueError, match="needs an encoder with an entity_width"):
        EntityHead(tiny())


def test_layers_that_are_not_named_are_sim(tiny):
    assert tiny(entity_width=8, layer_types=("mix",)).layer_types == ("mix", "sim")
    assert tiny(entity_width=8).layer_types == ("sim", "sim")
    assert tiny(entity_width=8, layer_types=["norm"]) == tiny(entity_width=8, layer_types=("norm", "sim"))
    assert tiny().layer_types == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer_types": ("mix",)}, "entity_width is 0; layer_types need at least 1"),
        ({"entity_width": -1}, "entity_width is -1"),
        ({"entity_width": 8, "layer_types": ("sim",) * 3}, "layer_types has 3 layers, the model 2"),
        (
            {"entity_width": 8, "layer_types": ("sim", "mx")},
            "layer_types is 'mx' in layer 1\n  known: sim, mix, norm",
        ),
        ({"entity_width": 10, "entity_heads": 4}, "entity_width 10 is not a multiple of entity_heads 4"),
        ({"entity_width": 8, "layer_types": ("mix",), "norm_first": True}, "neither share weights nor"),
        ({"entity_width": 8, "layer_types": ("mix",), "layer_groups": 1}, "neither share weights nor"),
    ],
)
def test_values_that_do_not_fit_are_named(tiny, values, message):
    with pytest.raises(ValueError, match=message):
        tiny(**values)


def test_the_paper_s_shape():
    config = EncoderConfig(vocab=9, entity_width=100, layer_types=("sim",) * 6 + ("mix",) + ("norm",) * 5)
    assert (config.entity_heads, config.layers, config.width) == (4, 12, 768)
