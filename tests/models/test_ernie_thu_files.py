"""Files of THU's ERNIE: what they say of each layer, what they leave out, and what contradicts them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fenghuo.errors import ModelError
from fenghuo.models.build import build
from fenghuo.models.folder import load_into, load_model, load_with_report, save_model
from fenghuo.models.recognize import recognize
from fenghuo.models.released.opening import open_stored
from fenghuo.net.config import HeadsConfig

TYPES = ("sim", "mix", "norm", "sim", "norm")
VALUES = {"layers": 5, "width": 16, "heads": 4, "inner_width": 24, "layer_types": TYPES, "max_length": 64}
ALL = HeadsConfig(mlm=True, pair=True, entity=True)


def made():
    return build(None, family="ernie_thu", values=VALUES, vocab=31, heads=ALL, seed=0)


def stored(model, folder, **changes):
    """The folder `save_model` writes, and its tensors."""
    save_model(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return load_file(folder / "model.safetensors")


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    model = made().eval()
    stored(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "ernie_thu"
    assert config["layer_types"] == list(TYPES)
    assert (config["entity_size"], config["num_entity_attention_heads"]) == (100, 4)
    again, report = load_with_report(tmp_path)
    assert report.unexpected == report.fresh == report.dropped == ()
    assert again.config == model.config
    assert again.heads_config == model.heads_config
    state = again.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    with torch.no_grad():
        case = {"entities": torch.randn(2, 9, 100), "entity_mask": torch.ones(2, 9)}
        ids = torch.randint(31, (2, 9))
        assert torch.equal(model(ids, **case).logits, again(ids, **case).logits)
    assert not load_into(made(), tmp_path).fresh


@pytest.mark.parametrize("gamma", [False, True])
def test_a_released_folder_is_known_by_its_names(tmp_path, gamma):
    """ernie_config.json says no family and neither width nor heads of the entities; older files have other ends."""
    tensors = stored(made(), tmp_path)
    if gamma:
        for name in [name for name in tensors if "LayerNorm" in name]:
            new = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            tensors[new] = tensors.pop(name)
    save_file(tensors, tmp_path / "model.safetensors")
    said = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for key in ("model_type", "architectures", "entity_size", "num_entity_attention_heads", "layer_norm_eps"):
        said.pop(key)
    where = tmp_path / "ernie_config.json"
    found = recognize(open_stored(tmp_path), said, where)
    assert found.family.name == "ernie_thu"
    assert not found.contradictions
    assert found.config == made().config
    assert found.heads == ALL
    assert not found.weights.unexpected
    said.pop("layer_types")
    told = recognize(open_stored(tmp_path), said, where)
    assert told.config == made().config
    assert "no config says layer_types: 2 sim, 1 mix, 2 norm, by the tensors' names" in told.remarks


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["sim", "norm", "norm", "sim", "norm"], "layer_types is 'norm' in layer 1; the weights have 'mix'"),
        (["sim", "mix", "norm"], "layer_types is 'sim' in layer 4; the weights have 'norm'"),
        (["sim", "mix", "knows", "sim", "norm"], "layer_types is 'knows' in layer 2"),
        (["sim"] * 6, "layer_types has 6 layers; the weights have 5"),
        ("sim", "layer_types is 'sim', not a value of that key"),
        (["sim", 3], r"layer_types is \['sim', 3\], not a value of that key"),
    ],
)
def test_wrong_types_name_the_layer(tmp_path, types, message):
    stored(made(), tmp_path, layer_types=types)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_a_lost_tensor_is_named(tmp_path):
    tensors = stored(made(), tmp_path)
    tensors.pop("bert.encoder.layer.2.attention.self_ent.query.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"missing: bert\.encoder\.layer\.2\.attention\.self_ent\.query\.weight"
    ):
        load_model(tmp_path)


def test_pretraining_may_begin_with_bert_s_weights(tmp_path):
    """As the authors' did: what BERT lacks is drawn afresh, and nothing of it is lost."""
    values = {name: value for name, value in VALUES.items() if name != "layer_types"}
    bert = build(None, family="bert", values=values, vocab=31, heads=HeadsConfig(mlm=True, pair=True), seed=1)
    save_model(bert, tmp_path)
    model = made()
    report = load_into(model, tmp_path, strict_encoder=False)
    assert not report.unexpected
    assert set(report.loaded) == set(bert.state_dict())
    assert all("entity" in name for name in report.fresh)
    with pytest.raises(ModelError, match="encoder tensors are missing"):
        load_into(model, tmp_path)


def test_bert_s_own_files_stay_bert(tmp_path):
    model = build("bert-4l-312", values={"max_length": 8}, vocab=30, heads=HeadsConfig(mlm=True), seed=0)
    save_model(model, tmp_path)
    assert recognize(open_stored(tmp_path), {"num_attention_heads": 12}, tmp_path).family.name == "bert"
