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
from fenghuo.net.initial import empty_model

ROOM = Path(fenghuo.models.__file__).parent
HEADS = [
    HeadsConfig(mlm=True, pair=True),
    HeadsConfig(pooler=False, mlm=True),
    HeadsConfig(mlm=True, span_boundary=True),
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
    text = (ROOM / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len([line for line in lines[1:] if line and not line.startswith(("from ", "import "))]) <= 66
    assert "def " not in text


def heads_of(card):
    """The heads its files can hold."""
    more = [HeadsConfig(mlm=True, pair=True, entity=True)] if card.defaults.get("entity_width") else []
    pairs = card.theirs("pair.out.weight") is not None
    spans = card.theirs("span_boundary.bias") is not None
    return [
        h
        for h in HEADS + more
        if (card.pooler or not h.pooler) and (pairs or not h.pair) and (spans or not h.span_boundary)
    ]


def small(card, **values):
    shared = {"embed_width": 8} if card.defaults.get("embed_width") else {}
    return encoder_config(None, family=card.name, values={**SMALL, **shared, **values}, vocab=30)[1]


FORMS = [(card, form) for card in FAMILIES.values() for form in card.forms]


@pytest.mark.parametrize(("card", "form"), FORMS, ids=lambda x: x.name.replace(" ", "_"))
def test_each_tensor_has_one_name_there_and_back(card, form):
    several = "sharing none" in form.name or "layer_groups" not in card.defaults
    values = {
        **({} if several else {"layer_groups": 1}),
        **({"layer_groups": 2} if "sharing none" in form.name else {}),
        **({"shared": "attention"} if "sharing attention" in form.name else {}),
        **({"shared": "feed_forward"} if "sharing ffn" in form.name else {}),
        **({"tasks": 3} if card.name == "ernie" else {}),
        **({"languages": 4} if card.name == "xlm" else {}),
        **({"layer_types": ("mix", "norm")} if card.name == "ernie_thu" else {}),
    }
    for heads in heads_of(card):
        ours = list(empty_model(small(card, **values), heads).state_dict())
        for tensor in [name for name in ours if name not in form.zeros]:
            found = form.theirs(tensor, heads.task)
            if (whole := form.whole(tensor)) is not None:
                assert form.parts(whole[0]) == whole[1]
                assert tensor in whole[1]
                continue
            if found is None and (form.target is None or "head" in tensor):
                assert tensor.split(".")[0] in ("pooler", "head", "pair", "span_boundary"), (
                    tensor
                )  # such files never hold these
                continue
            assert found is not None, tensor
            assert form.ours(found[0], heads.task) == (tensor, found[1])
        theirs = [form.theirs(tensor, heads.task) for tensor in ours if form.whole(tensor) is None]
        known = [name for name in theirs if name is not None]
        assert len(set(known)) == len(known)
        assert form.fused or form.target is None or None not in theirs


@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 999), st.data())
def test_rules_are_inverse_at_any_depth(name, layer, data):
    card = FAMILIES[name]
    ours, _ = data.draw(st.sampled_from(card.form.rules))
    tensor = ours.replace("{n}", str(layer))
    if not tensor.endswith((".weight", ".bias")):
        tensor += ".weight" if ".tables." in tensor else data.draw(st.sampled_from([".weight", ".bias"]))
    assert card.form.ours(card.theirs(tensor)) == (tensor, False)


@pytest.mark.parametrize("name", FAMILIES)
def test_names_outside_the_rules_have_no_name(name):
    card = FAMILIES[name]
    for tensor in ("encoder.attentions.x.query.weight", "qa_outputs.weight", "", "head.out.scale"):
        assert card.theirs(tensor) is None
        assert all(form.ours(tensor) is None for form in card.forms)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_model_keeps_the_contract(name):
    """Shapes, a seed that decides everything, and a first loss of the log of the choices."""
    card = FAMILIES[name]
    heads = heads_of(card)[0]
    values = {**SMALL, "dropout": 0.0, **({"embed_width": 8} if card.defaults.get("embed_width") else {})}
    made = [build(None, family=name, values=values, vocab=200, heads=heads, seed=3) for _ in range(2)]
    model = made[0]
    assert model.training
    assert model.family == name
    for mine, theirs in zip(*(one.parameters() for one in made), strict=True):
        assert torch.equal(mine, theirs)
    torch.manual_seed(0)
    ids = torch.randint(200, (4, 20))
    with torch.no_grad():
        out = model.eval()(ids)
    assert out.last_hidden_state.shape == (4, 20, 16)
    assert out.logits.shape == (4, 20, 200)
    loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), ids.flatten())
    assert float(loss) == pytest.approx(math.log(200), rel=0.05)
    if heads.pair:
        assert out.pair_logits.shape == (4, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_can_be_built(preset):
    card, config = encoder_config(preset, vocab=21128)
    assert preset in card.presets
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
