"""Transformer-XL's card: published sizes, and folders that say or hold something else."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fenghuo.errors import ModelError
from fenghuo.models.build import build, encoder_config
from fenghuo.models.convert import convert
from fenghuo.models.folder import load_model, load_with_report, save_model
from fenghuo.net.config import HeadsConfig
from fenghuo.net.initial import empty_model

HEADS = HeadsConfig(pooler=False, mlm=True)


@pytest.mark.parametrize(
    ("preset", "vocab", "millions"),
    [
        ("transfo-xl-wt103-large", 267_735, 285),
        ("transfo-xl-wt103-base", 267_735, 151),
        ("transfo-xl-enwik8-base", 204, 41),
    ],
)
def test_the_published_shapes_have_the_published_sizes(preset, vocab, millions):
    """Tables 1 and 2 of arXiv 1901.02860 say 257 and 151 million weights on WikiText-103, 41 million on enwik8; the
    shapes of the released large model make 285, with the tied softmax counted once."""
    model = empty_model(encoder_config(preset, vocab=vocab)[1], HEADS)
    assert sum(x.numel() for x in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.fixture
def folder(tmp_path):
    values = {"layers": 2, "heads": 2, "width": 8, "inner_width": 12, "cutoffs": (9,), "cutoff_divisor": 2}
    shared = {"relative_shared": True, "memory": 4}
    model = build(None, family="transfo-xl", values={**values, **shared}, vocab=20, heads=HEADS, seed=0)
    save_model(model.eval(), tmp_path)
    return tmp_path


def change(folder, **values):
    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps(config), encoding="utf-8")


def test_what_layers_share_is_stored_for_each_of_them(folder):
    """transformers does not share it again after loading."""
    stored = load_file(folder / "model.safetensors")
    for name in ("r_w_bias", "r_r_bias"):
        for layer in range(2):
            copy = stored[f"transformer.layers.{layer}.dec_attn.{name}"]
            assert torch.equal(copy, stored[f"transformer.{name}"])
    assert len(load_with_report(folder)[1].dropped) == 4


def test_copies_that_differ_are_refused(folder):
    path = folder / "model.safetensors"
    stored = load_file(path)
    stored["transformer.layers.1.dec_attn.r_w_bias"] += 1
    save_file(stored, path)
    with pytest.raises(
        ModelError, match=r"r_w_bias differs from transformer\.r_w_bias, which all layers share"
    ):
        load_model(folder)


def test_an_untied_softmax_is_refused(folder):
    path = folder / "model.safetensors"
    stored = load_file(path)
    for name in ("out_layers.1.weight", "out_projs.1"):
        source = {"out_layers.1.weight": "emb_layers.1.weight", "out_projs.1": "emb_projs.1"}[name]
        copied = stored[f"transformer.word_emb.{source}"].clone()
        save_file({**stored, f"crit.{name}": copied}, path)
        load_model(folder)
        save_file({**stored, f"crit.{name}": copied + 1}, path)
        with pytest.raises(ModelError, match=f"crit.{name} differs"):
            load_model(folder)


def test_a_pickle_as_released_is_converted(folder, tmp_path):
    """One file of torch.save, with every copy and the frequencies of the sines."""
    stored = load_file(folder / "model.safetensors")
    before = load_model(folder)
    (folder / "model.safetensors").unlink()
    words = {name: stored[f"transformer.word_emb.emb_{name}"] for name in ("layers.1.weight", "projs.1")}
    stored |= {f"crit.out_{name}": x.clone() for name, x in words.items()}
    torch.save({**stored, "transformer.pos_emb.inv_freq": torch.ones(4)}, folder / "pytorch_model.bin")
    report = convert(folder, tmp_path / "out")
    assert report.family.name == "transfo-xl"
    assert "it says what follows" in str(report.health)
    after = load_model(tmp_path / "out")
    ids = torch.randint(20, (2, 9))
    assert torch.equal(before(ids).logits, after(ids).logits)


def test_an_encoder_alone_is_written_as_transformers_writes_it(tmp_path):
    values = {"layers": 2, "heads": 2, "width": 8, "inner_width": 12, "relative_shared": True}
    heads = HeadsConfig(pooler=False)
    model = build(None, family="transfo-xl", values=values, vocab=20, heads=heads, seed=0).eval()
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {"r_w_bias", "layers.1.dec_attn.r_w_bias", "layers.0.dec_attn.qkv_net.weight"} <= stored.keys()
    again, report = load_with_report(tmp_path)
    assert report.unexpected == ()
    assert len(report.dropped) == 4
    ids = torch.randint(20, (2, 9))
    assert torch.equal(model(ids).last_hidden_state, again(ids).last_hidden_state)


def test_memory_and_clip_are_values_of_the_folder(folder):
    """No weight depends on them, so that an evaluation may remember more than training did."""
    ids = torch.randint(20, (2, 9))
    assert load_model(folder)(ids).mems[0].shape == (2, 4, 8)
    change(folder, mem_len=7, clamp_len=2, same_length=False)
    model = load_model(folder)
    assert (model.config.relative_clip, model.config.same_length) == (2, False)
    assert model(ids).mems[0].shape == (2, 7, 8)
    change(folder, mem_len=0)
    assert load_model(folder)(ids).mems is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"d_head": 3}, "d_head is 3; with its other values only 4 is supported"),
        ({"d_embed": 4}, "d_embed is 4; with its other values only 8 is supported"),
        ({"cutoffs": 9}, "cutoffs is 9, not a value of that key"),
        ({"cutoffs": [9, 4]}, "above the one before"),
        ({"cutoffs": [7]}, "is wanted"),
        ({"attn_type": 2}, "attn_type is 2"),
        ({"proj_share_all_but_first": False}, "proj_share_all_but_first is False"),
        ({"untie_r": True}, "dec_attn.r_"),
        ({"mem_len": 0, "same_length": True}, "same_length without memory"),
    ],
)
def test_configs_of_another_computation_are_refused(folder, values, message):
    change(folder, **values)
    with pytest.raises(ModelError, match=message):
        load_model(folder)
