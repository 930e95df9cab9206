"""Every family's card: complete, short, cited, and with names that go both ways."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fenghuo.models
from fenghuo.errors import ModelError
from fenghuo.models import FAMILIES
from fenghuo.models.build import PRESETS, build, encoder_config
from fenghuo.models.family import Family
from fenghuo.net.config import HeadsConfig
from fenghuo.net.model import empty_model

ROOM = Path(fenghuo.models.__file__).parent
HEADS = [
    HeadsConfig(mlm=True, pair=True),
    HeadsConfig(pooler=False, mlm=True),
    HeadsConfig(task="classify", outputs=3),
    HeadsConfig(pooler=False, task="tag", outputs=5),
]
SMALL = {"layers": 2, "heads": 2, "width": 16, "inner_width": 24}


def test_every_card_is_in_the_table():
    cards = {}
    for file in ROOM.glob("*.py"):
        module = importlib.import_module(f"fenghuo.models.{file.stem}")
        cards |= {x.name: x for x in vars(module).values() if isinstance(x, Family)}
    assert cards == FAMILIES
    assert all(name == card.name for name, card in FAMILIES.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_card_is_short_and_says_where_it_comes_from(name):
    card = FAMILIES[name]
    assert "arXiv" in card.citation
    assert len((ROOM / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 60
    assert "def " not in (ROOM / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("heads", HEADS)
def test_each_tensor_has_one_name_there_and_back(name, heads):
    card, config = encoder_config(None, family=name, values=SMALL, vocab=30)
    ours = list(empty_model(config, heads).state_dict())
    theirs = [card.theirs(tensor) for tensor in ours]
    assert None not in theirs
    assert len(set(theirs)) == len(ours)
    assert [card.ours(tensor) for tensor in theirs] == ours


@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 999), st.data())
def test_rules_are_inverse_at_any_depth(name, layer, data):
    card = FAMILIES[name]
    ours, _ = data.draw(st.sampled_from(card.rules))
    tensor = ours.replace("{n}", str(layer)) + data.draw(st.sampled_from([".weight", ".bias", ""]))
    assert card.ours(card.theirs(tensor)) == tensor


@pytest.mark.parametrize("name", FAMILIES)
def test_names_outside_the_rules_have_no_name(name):
    card = FAMILIES[name]
    for tensor in ("encoder.blocks.x.attention.query.weight", "qa_outputs.weight", "", "head.out.scale"):
        assert card.theirs(tensor) is None
        assert card.ours(tensor) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_model_keeps_the_contract(name):
    """Shapes, a seed that decides everything, and a first loss of the log of the choices."""
    model = build(None, family=name, values={**SMALL, "dropout": 0.0}, vocab=200, heads=HEADS[0], seed=3)
    again = build(None, family=name, values={**SMALL, "dropout": 0.0}, vocab=200, heads=HEADS[0], seed=3)
    assert model.training
    assert model.family == name
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    torch.manual_seed(0)
    ids = torch.randint(200, (4, 20))
    with torch.no_grad():
        out = model.eval()(ids)
    assert out.last_hidden_state.shape == (4, 20, 16)
    assert out.logits.shape == (4, 20, 200)
    loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), ids.flatten())
    assert float(loss) == pytest.approx(math.log(200), rel=0.05)
    assert out.pair_logits.shape == (4, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_can_be_built(preset):
    card, config = encoder_config(preset, vocab=21128)
    assert preset.startswith(card.name)
    assert sum(p.numel() for p in empty_model(config, HeadsConfig()).parameters()) > 0


def test_the_released_shapes_have_the_released_sizes():
    """101.9 million weights in NEZHA base's encoder, 325.0 million in large (pooler included, MLM head not)."""
    sizes = {}
    for preset in ("nezha-base", "nezha-large"):
        _, config = encoder_config(preset, vocab=21128)
        sizes[preset] = sum(p.numel() for p in empty_model(config, HeadsConfig()).parameters())
    assert sizes["nezha-base"] / 1e6 == pytest.approx(101.9, abs=0.05)
    assert sizes["nezha-large"] / 1e6 == pytest.approx(324.5, abs=0.6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "nezha-bse"}, "Did you mean 'nezha-base'"),
        ({"preset": None}, "needs a preset or a family"),
        ({"preset": None, "family": "bart"}, r"unknown family 'bart'\. Did you mean 'bert'"),
        ({"preset": "bert-base", "family": "nezha"}, "of family 'bert', not 'nezha'"),
        ({"preset": "bert-base", "values": {"widht": 3}}, "Did you mean 'width'"),
        ({"preset": "bert-base", "values": {"width": 100}}, "not a multiple of heads"),
    ],
)
def test_wrong_names_and_values_are_explained(arguments, message):
    with pytest.raises(ModelError, match=message):
        encoder_config(**{"vocab": 10, **arguments})
