"""Model folders: what is written is read, and what cannot be read says why."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import fenghuo
from fenghuo.errors import ModelError
from fenghuo.models.convert import convert
from fenghuo.models.folder import build, load_into, load_with_report, read_config, save_model
from fenghuo.net.config import HeadsConfig

SMALL = {"layers": 2, "heads": 2, "width": 16, "inner_width": 24}
HEADS = {
    "pretraining": HeadsConfig(mlm=True, pair=True),
    "mlm": HeadsConfig(pooler=False, mlm=True),
    "span_boundary": HeadsConfig(mlm=True, span_boundary=True),
    "classify": HeadsConfig(task="classify", outputs=3),
    "tag": HeadsConfig(pooler=False, task="tag", outputs=5),
    "none": HeadsConfig(),
}
CLASSES = {
    "pretraining": "ForPreTraining",
    "mlm": "ForMaskedLM",
    "span_boundary": "ForMaskedLM",
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "none": "Model",
}


def make(family="nezha", heads="pretraining", seed=0, **values):
    model = build(None, family=family, values={**SMALL, **values}, vocab=30, heads=HEADS[heads], seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture
def saved(tmp_path):
    """A folder with a NEZHA pretraining model, and ways to spoil it."""

    class Saved:
        folder = tmp_path / "model"
        weights = folder / "model.safetensors"

        def config(self, **changes):
            values = read_config(self.folder) | changes
            values = {key: value for key, value in values.items() if value is not ...}
            (self.folder / "config.json").write_text(json.dumps(values), encoding="utf-8")

        def tensors(self, change):
            save_file(change(load_file(self.weights)), self.weights, metadata={"format": "pt"})

    saved = Saved()
    saved.model = make()
    save_model(saved.model, saved.folder)
    return saved


@pytest.mark.parametrize("family", ["bert", "nezha"])
@pytest.mark.parametrize("heads", HEADS)
def test_what_is_saved_is_loaded_bit_by_bit(tmp_path, family, heads):
    model = make(family, heads)
    save_model(model, tmp_path)
    again, report = load_with_report(tmp_path)
    assert not again.training
    assert (again.config, replace(again.heads_config, dropout=None)) == (model.config, model.heads_config)
    assert again.family == family
    assert report.fresh == report.unexpected == report.ignored_config == ()
    for (name, mine), theirs in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    assert read_config(tmp_path)["architectures"] == [family.capitalize() + CLASSES[heads]]
    save_model(again, tmp_path / "twice")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


def test_the_public_surface_reaches_them(tmp_path):
    model = make()
    fenghuo.save_model(model, str(tmp_path))
    ids = torch.randint(30, (2, 5))
    assert torch.equal(fenghuo.load_model(str(tmp_path))(ids).logits, model(ids).logits)


def test_the_files_are_hugging_face_s(saved):
    names = set(load_file(saved.weights))
    assert "nezha.encoder.layer.1.attention.self.query.weight" in names
    assert "nezha.embeddings.LayerNorm.bias" in names
    assert "cls.seq_relationship.weight" in names
    assert "cls.predictions.decoder.weight" not in names
    assert not [name for name in names if "position" in name]
    values = read_config(saved.folder)
    assert values["model_type"] == "nezha"
    assert values["max_relative_position"] == 64
    assert values["hidden_size"] == 16


def test_labels_and_the_task_are_kept_from_load_to_save(tmp_path):
    task = {"task": {"kind": "classify", "labels": ["bad", "good", "面"]}}
    save_model(make(heads="classify"), tmp_path, extra={"labels": ["bad", "good", "面"], "fenghuo": task})
    save_model(fenghuo.load_model(tmp_path), tmp_path / "again")
    values = read_config(tmp_path / "again")
    assert values["id2label"] == {"0": "bad", "1": "good", "2": "面"}
    assert values["label2id"]["面"] == 2
    assert values["fenghuo"] == task
    with pytest.raises(ModelError, match="2 labels for a head of 3 outputs"):
        save_model(make(heads="classify"), tmp_path, extra={"labels": ["a", "b"]})


def test_other_files_of_the_folder_stay(saved):
    (saved.folder / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    save_model(saved.model, saved.folder)
    assert sorted(p.name for p in saved.folder.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]


def test_a_pickle_of_tensors_is_read(saved):
    torch.save(load_file(saved.weights), saved.folder / "pytorch_model.bin")
    saved.weights.unlink()
    model = fenghuo.load_model(saved.folder)
    assert torch.equal(model.pooler.dense.weight, saved.model.pooler.dense.weight)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"", b"not a pickle", pickle.dumps({"a": 1})])
def test_a_pickle_that_is_not_safe_is_refused(saved, content):
    saved.weights.unlink()
    (saved.folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(
        ModelError, match=r"pytorch_model\.bin: (damaged|not a|a pickle that is not safe|cannot be read)"
    ) as told:
        fenghuo.load_model(saved.folder)
    assert "weights_only" not in str(told.value)


def test_a_torch_pickle_with_code_inside_is_refused(saved):
    saved.weights.unlink()
    torch.save({"weight": Bomb()}, saved.folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"not safe to read: it calls .*exec.* converted") as told:
        fenghuo.load_model(saved.folder)
    assert "weights_only" not in str(told.value), "torch advises to run the code in it"


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_a_damaged_file_is_refused(saved, keep):
    saved.weights.write_bytes(saved.weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        fenghuo.load_model(saved.folder)


def test_half_precision_is_widened(saved):
    saved.tensors(lambda tensors: {name: x.half() for name, x in tensors.items()})
    model = fenghuo.load_model(saved.folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_released_files_with_old_names_and_stored_tables_load(saved):
    """Huawei's PyTorch names: the prefix `bert`, gamma and beta, the tied decoder, a table in each layer."""

    def age(tensors):
        old = {}
        for name, x in tensors.items():
            name = name.replace("nezha.", "bert.")
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            old[name] = x
        for layer in range(2):
            table = f"bert.encoder.layer.{layer}.attention.self.relative_positions_encoding"
            old[table] = torch.zeros(8, 8, 8)
        old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
        old["bert.embeddings.position_ids"] = torch.arange(4)[None]
        return old

    saved.tensors(age)
    saved.config(embedding_size=128, directionality="bidi", model_type=..., architectures=...)
    model, report = load_with_report(saved.folder)
    ids = torch.randint(30, (2, 9))
    assert torch.equal(model(ids).logits, saved.model(ids).logits)
    assert len(report.dropped) == 4
    assert set(report.ignored_config) == {"embedding_size", "directionality"}


def test_an_encoder_saved_without_heads_and_prefix_loads(tmp_path):
    model = make("bert", "none")
    save_model(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    bare = {name.removeprefix("bert."): x for name, x in load_file(weights).items()}
    save_file(bare, weights)
    ids = torch.randint(30, (2, 9))
    assert torch.equal(fenghuo.load_model(tmp_path)(ids).pooler_output, model(ids).pooler_output)


def without(part):
    return lambda tensors: {name: x for name, x in tensors.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layer.1.output.dense.bias"), r"1 tensors are missing: nezha\.encoder\.layer\.1\.output"),
        (without("word_embeddings"), "its tensors are not those of a nezha model"),
        (without("predictions.bias"), "missing: cls.predictions.bias"),
        (
            lambda t: t | {"nezha.encoder.layer.2.output.dense.bias": torch.zeros(16)},
            r"no place for: nezha\.encoder\.layer\.2",
        ),
        (
            lambda t: t | {"nezha.pooler.dense.weight": torch.zeros(3, 16)},
            r"nezha\.pooler\.dense\.weight is \(3, 16\); \(16, 16\) is wanted",
        ),
        (
            lambda t: t | {"cls.predictions.decoder.weight": torch.zeros(30, 16)},
            "decoder.weight differs from the table it is tied to",
        ),
        (
            lambda t: t | {"bert.pooler.dense.weight": torch.zeros(16, 16)},
            r"two tensors for one weight, (bert|nezha)\.pooler\.dense\.weight and",
        ),
        (
            lambda t: t | {"nezha.encoder.layer.0.attention.self.gate.weight": torch.zeros(2, 16)},
            r"encoder tensors that no nezha model has: nezha\.encoder\.layer\.0\.attention\.self\.gate\.weight",
        ),
        (lambda t: t | {"classifier.weight": torch.zeros(2, 16)}, "has a classifier, but `architectures`"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved, change, message):
    saved.tensors(change)
    with pytest.raises(ModelError, match=message):
        fenghuo.load_model(saved.folder)


def test_half_a_head_is_named(tmp_path):
    save_model(make(heads="classify"), tmp_path)
    weights = tmp_path / "model.safetensors"
    save_file(without("classifier.weight")(load_file(weights)), weights)
    with pytest.raises(ModelError, match=r"missing: classifier\.weight"):
        fenghuo.load_model(tmp_path)


def test_tensors_that_nothing_uses_are_reported(saved):
    saved.tensors(lambda t: t | {"qa_outputs.weight": torch.zeros(2, 16)})
    _, report = load_with_report(saved.folder)
    assert report.unexpected == ("qa_outputs.weight",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "nezah"}, "unknown family 'nezah'. Did you mean 'nezha'"),
        ({"num_attention_heads": ...}, "nothing says how many heads the model has"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3; the weights have 2"),
        ({"hidden_size": "16"}, "hidden_size is '16'"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_act": "silu"}, "hidden_act 'silu' is not supported"),
        ({"use_relative_position": False}, "use_relative_position is False; only True is supported"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"num_attention_heads": 3}, "not a multiple of heads"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_explained(saved, changes, message):
    saved.config(**changes)
    with pytest.raises(ModelError, match=message):
        fenghuo.load_model(saved.folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "nothing says how many heads"), ("{", "not readable"), ("[1]", "not an object")],
)
def test_a_config_that_cannot_be_read(saved, content, message):
    path = saved.folder / "config.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        fenghuo.load_model(saved.folder)


def test_a_folder_without_weights(saved):
    saved.weights.unlink()
    with pytest.raises(ModelError, match=r"no weights that can be read .* Found: config\.json"):
        fenghuo.load_model(saved.folder)
    (saved.folder / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="weight_map"):
        fenghuo.load_model(saved.folder)


def test_a_config_that_names_no_family_leaves_it_to_the_tensors(saved):
    saved.config(
        model_type=...,
        architectures=...,
        max_relative_position=...,
        use_relative_position=...,
        hidden_size=...,
    )
    ids = torch.randint(30, (2, 9))
    loaded = fenghuo.load_model(saved.folder)
    assert loaded.family == "nezha"
    assert torch.equal(loaded(ids).logits, saved.model(ids).logits)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_the_activation_of_the_config_is_used(tmp_path, activation):
    save_model(make(activation=activation), tmp_path)
    assert read_config(tmp_path)["hidden_act"] == activation
    assert fenghuo.load_model(tmp_path).config.activation == activation


def test_load_into_takes_the_encoder_and_leaves_a_fresh_head(saved):
    model = make(heads="classify", seed=5)
    head = model.head.out.weight.clone()
    report = load_into(model.train(), saved.folder)
    assert model.training
    assert torch.equal(model.head.out.weight, head)
    assert torch.equal(model.encoder.embed.words.weight, saved.model.encoder.embed.words.weight)
    assert torch.equal(model.pooler.dense.weight, saved.model.pooler.dense.weight)
    assert report.fresh == ("head.out.bias", "head.out.weight")
    assert "cls.seq_relationship.weight" in report.unexpected


def test_a_span_boundary_head_is_left_behind_by_a_classifier(tmp_path):
    save_model(make(heads="span_boundary"), tmp_path)
    report = load_into(make(heads="classify", seed=5), tmp_path)
    assert report.fresh == ("head.out.bias", "head.out.weight")
    assert {name.partition(".")[2].partition(".")[0] for name in report.unexpected} == {
        "predictions",
        "pair_target_predictions",
    }


def test_load_into_refuses_another_encoder(saved):
    with pytest.raises(ModelError, match="relative_clip 64, the model 32"):
        load_into(make(relative_clip=32), saved.folder)
    with pytest.raises(ModelError, match="position nezha, the model learned"):
        load_into(make("bert"), saved.folder)
    with pytest.raises(ModelError, match=r"missing, left over.*nezha\.encoder\.layer\.2"):
        load_into(make(layers=3), saved.folder)
    report = load_into(make(layers=3), saved.folder, strict_encoder=False)
    assert "encoder.feeds.2.inner.weight" in report.fresh


def test_a_model_its_family_cannot_say_is_not_written(tmp_path):
    with pytest.raises(ModelError, match="a bert folder cannot say layer_groups"):
        save_model(make("bert", layer_groups=1), tmp_path)
    with pytest.raises(ModelError, match="a bert folder cannot say position"):
        save_model(make("nezha"), tmp_path, family="bert")
    assert not list(tmp_path.iterdir())


def test_a_roberta_of_two_segments_stays_one(tmp_path):
    """Bare names fit BERT and RoBERTa alike; what config.json names decides, and with it where places begin."""
    model = make("roberta", "none", segments=2)
    save_model(model, tmp_path)
    loaded = fenghuo.load_model(tmp_path)
    assert (loaded.family, loaded.config.first_position) == ("roberta", 2)
    ids = torch.randint(3, 30, (2, 9))
    assert torch.equal(loaded(ids).last_hidden_state, model(ids).last_hidden_state)


def test_a_strange_tensor_in_a_bare_encoder_is_an_error(tmp_path):
    save_model(make("bert", "none"), tmp_path)
    weights = tmp_path / "model.safetensors"
    save_file(load_file(weights) | {"encoder.layer.0.attention.self.lora_A": torch.zeros(4, 16)}, weights)
    with pytest.raises(ModelError, match=r"no bert model has: encoder\.layer\.0\.attention\.self\.lora_A"):
        fenghuo.load_model(tmp_path)


def test_a_stage_begins_with_the_numbers_that_load_model_reads(tmp_path):
    """A Paddle folder whose config says no epsilon: that of PaddleNLP's code, for every reader."""
    convert_to = tmp_path / "paddle"
    save_model(make("ernie"), tmp_path / "hf")
    convert(tmp_path / "hf", convert_to, to="paddle")
    config = read_config(convert_to)
    del config["layer_norm_eps"]
    (convert_to / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = fenghuo.load_model(convert_to)
    assert model.config.norm_eps == 1e-12
    load_into(make("ernie", norm_eps=1e-12), convert_to)
    with pytest.raises(ModelError, match="norm_eps 1e-12, the model 1e-05"):
        load_into(make("ernie"), convert_to)
