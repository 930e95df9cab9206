"""`fenghuo convert`: the same outputs and bits from every form, a report that leaves nothing out, and bad files."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models import spellings as spell

from fenghuo.cli import main
from fenghuo.errors import DiskError, ModelError, RunError, UsageError
from fenghuo.models import convert as convert_module
from fenghuo.models.convert import convert
from fenghuo.models.folder import build, load_model, save_model
from fenghuo.models.health import check_mlm
from fenghuo.models.released.paddle import read_paddle, write_paddle
from fenghuo.models.released.tensorflow import read_tensorflow, write_tensorflow
from fenghuo.net.config import HeadsConfig
from fenghuo.text.tokenizer import Tokenizer

TINY = {"layers": 2, "heads": 2, "width": 16, "inner_width": 24}
SHAPE = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
GOLDEN = {**SHAPE, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GOLDEN |= {"vocab_size": 101, "max_position_embeddings": 700, "type_vocab_size": 2, "hidden_act": "gelu"}
KNOWN = ("albert", "albert-groups", "bert", "ernie", "nezha-127", "nezha-64", "roberta", "unilm", "xlm")
IDS = ("input_ids", "attention_mask", "token_type_ids", "task_type_ids", "langs")


def put(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")


def outputs(model, case):
    with torch.no_grad():
        out = model(**{key: case[key] for key in IDS if key in case})
    return {
        "last": out.last_hidden_state,
        "mlm": out.logits,
        "pooled": out.pooler_output,
        "pair": out.pair_logits,
    }


def assert_golden(folder, cases, within=1e-5):
    """The folder's model gives what transformers gave for the same tensors."""
    model = load_model(folder)
    for name in ("length-7", "padded-right"):
        case = cases[name]
        found = outputs(model, case)
        rows, columns = case["at"].T
        last = max(key for key in case if key.startswith("state."))
        wanted = {"last": case[last], "mlm": case["mlm"]}
        mine = {"last": found["last"][rows, columns], "mlm": found["mlm"][rows[:8], columns[:8]]}
        wanted |= {key: case[key] for key in ("pooled", "pair") if key in case}
        mine |= {key: found[key] for key in ("pooled", "pair") if key in case}
        for key, value in wanted.items():
            torch.testing.assert_close(
                mine[key], value, rtol=0, atol=within, msg=lambda m, k=key: f"{k}: {m}"
            )


# From every form: the outputs that transformers gives for the same tensors


def nezha_pytorch(folder):
    parts, cases = spell.golden("nezha-64")
    arrays = spell.gamma_beta(spell.torch_bert(parts))
    scope = "bert.encoder.layer.{}.attention.self.relative_positions_encoding"
    arrays |= {scope.format(n): torch.zeros(20, 20, 12) for n in range(3)}
    torch.save(arrays, folder / "pytorch_model.bin")
    values = {key: value for key, value in GOLDEN.items() if key != "max_position_embeddings"}
    put(folder / "bert_config.json", {**values, "max_relative_position": 64, "use_relative_position": True})
    return folder, cases


def unilm(folder):
    parts, cases = spell.golden("unilm")
    torch.save(spell.gamma_beta(spell.torch_bert(parts)), folder / "unilm1-base-cased.bin")
    put(folder / "config.json", {**GOLDEN, "type_vocab_size": 6})
    return folder / "unilm1-base-cased.bin", {"length-7": shown(cases), "padded-right": shown(cases)}


def shown(cases):
    return cases["padded-bidirectional"]


def behind_a_wrapper(folder):
    parts, cases = spell.golden("bert")
    arrays = {f"module.{name}": x for name, x in spell.torch_bert(parts).items()}
    torch.save({"state_dict": arrays, "epoch": 3}, folder / "checkpoint.pth")
    put(folder / "bert_config.json", GOLDEN)
    return folder, cases


def bert_paddle(folder):
    parts, cases = spell.golden("bert")
    write_paddle(folder / "model_state.pdparams", spell.paddlenlp(parts, "bert"))
    put(
        folder / "model_config.json",
        {"init_args": [{**GOLDEN, "init_class": "BertModel"}], "init_class": "BertForPretraining"},
    )
    return folder, cases


def ernie_paddle(folder):
    parts, cases = spell.golden("ernie")
    write_paddle(folder / "model_state.pdparams", spell.paddlenlp(parts, "ernie"))
    values = {**GOLDEN, "hidden_act": "relu", "use_task_id": True, "task_type_vocab_size": 3}
    values |= {"type_vocab_size": 4, "max_position_embeddings": 513, "layer_norm_eps": 1e-5}
    put(folder / "config.json", values)
    return folder, cases


def ernie_persistables(folder):
    parts, cases = spell.golden("ernie")
    spell.write_persistables(folder / "params", spell.persistables(parts))
    values = {**GOLDEN, "hidden_act": "relu", "use_task_id": True, "task_type_vocab_size": 3}
    values |= {"sent_type_vocab_size": 4, "max_position_embeddings": 513}
    del values["type_vocab_size"], values["intermediate_size"]
    put(folder / "params" / "ernie_config.json", values)
    return folder / "params", cases


def fairseq(*, new=False, **version):
    def make(folder):
        parts, cases = spell.golden("roberta")
        # fairseq has no segments: what transformers adds everywhere goes into the places.
        parts.positions = parts.positions + parts.segments
        arguments = argparse.Namespace(
            arch="roberta",
            encoder_attention_heads=4,
            activation_fn="gelu",
            dropout=0.0,
            attention_dropout=0.0,
        )
        state = {"args": arguments, "model": spell.fairseq(parts, **version), "extra_state": {"epoch": 1}}
        torch.save(state, folder / "model.pt")
        return folder / "model.pt", cases

    return make


def roberta_paddle(folder):
    parts, cases = spell.golden("roberta")
    write_paddle(folder / "model_state.pdparams", spell.paddlenlp(parts, "roberta"))
    put(folder / "config.json", {**GOLDEN, "type_vocab_size": 1, "layer_norm_eps": 1e-5})
    return folder, cases


def xlm(folder):
    parts, cases = spell.golden("xlm")
    params = {"n_words": 101, "emb_dim": 48, "n_layers": 3, "n_heads": 4, "n_langs": 5, "dropout": 0.0}
    params |= {"attention_dropout": 0.0, "gelu_activation": True, "sinusoidal_embeddings": False}
    words = {n: f"w{n}</w>" for n in range(101)}
    state = {"model": spell.torch_xlm(parts), "params": params, "dico_id2word": words}
    torch.save(state, folder / "mlm.pth")
    return folder / "mlm.pth", cases


def albert_tensorflow(folder):
    parts, cases = spell.golden("albert")
    write_tensorflow(folder / "model.ckpt-best", spell.with_slots(spell.tensorflow_albert(parts)))
    values = {**GOLDEN, "embedding_size": 16, "num_hidden_groups": 1, "inner_group_num": 1}
    put(folder / "albert_config.json", values)
    return folder / "model.ckpt-best", cases


FORMS = {
    "NEZHA-PyTorch, with 12 tables of distances": nezha_pytorch,
    "UniLM's .bin": unilm,
    "module. in a training script's .pth": behind_a_wrapper,
    "PaddleNLP's BERT, an old config": bert_paddle,
    "PaddleNLP's ERNIE": ernie_paddle,
    "ERNIE 2.0's variables, a file each": ernie_persistables,
    "fairseq": fairseq(),
    "fairseq since 0.10": fairseq(new=True),
    "fairseq with emb_layer_norm": fairseq(old_norm=True),
    "very old fairseq": fairseq(top="decoder.", old_norm=True, fused=True),
    "PaddleNLP's RoBERTa": roberta_paddle,
    "XLM's .pth": xlm,
    "Google's ALBERT": albert_tensorflow,
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_those_of_transformers_with_the_same_tensors(tmp_path, form):
    (tmp_path / "in").mkdir()
    source, cases = FORMS[form](tmp_path / "in")
    report = convert(source, tmp_path / "out")
    told = report.as_json()
    assert told["unexpected"] == told["contradictions"] == told["reinitialized"] == []
    assert_golden(tmp_path / "out", cases)
    assert json.loads((tmp_path / "out/conversion.json").read_text(encoding="utf-8")) == told


@pytest.mark.parametrize("family", ["bert", "nezha"])
def test_tensorflow_1s_gelu_is_written_as_gelu_new(tmp_path, family):
    """And computes, bit for bit, what the same tensors do in a folder of transformers that says gelu_new."""
    parts, cases = spell.golden({"nezha": "nezha-64"}.get(family, family))
    values = {**GOLDEN, **({"use_relative_position": True} if family == "nezha" else {})}
    put(tmp_path / "in/bert_config.json", values)
    write_tensorflow(
        tmp_path / "in/model.ckpt-691689", spell.with_slots(spell.tensorflow_bert(parts), "lamb")
    )
    report = convert(tmp_path / "in/model.ckpt-691689", tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["hidden_act"] == "gelu_new"
    assert any("gelu_new" in one for one in report.remarks)
    slots = [name for name in report.found.weights.dropped if name.endswith(("lamb_m", "lamb_v"))]
    assert len(slots) == 2 * len(spell.tensorflow_bert(parts))
    assert any(line.startswith("  dropped slots") and "global_step" in line for line in report.lines()) or (
        "global_step" in report.found.weights.dropped
    )
    reference = json.loads(
        (spell.GOLDEN / {"nezha": "nezha-64"}.get(family, family) / "config.json").read_text()
    )
    put(tmp_path / "hf/config.json", {**reference, "hidden_act": "gelu_new"})
    save_file(spell.torch_bert(parts, f"{family}."), tmp_path / "hf/model.safetensors")
    mine, theirs = load_model(tmp_path / "out"), load_model(tmp_path / "hf")
    for key, value in outputs(mine, cases["padded-right"]).items():
        assert torch.equal(value, outputs(theirs, cases["padded-right"])[key])


def test_tinyberts_classifier_reads_what_its_relu_leaves(tmp_path):
    parts, cases = spell.golden("bert")
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(3, 48, generator=generator), torch.randn(3, generator=generator)
    parts.heads = {"pooler": parts.heads["pooler"], "classifier": (weight, bias)}
    arrays = spell.torch_bert(parts) | {
        "fit_dense.weight": torch.zeros(768, 48),
        "fit_dense.bias": torch.zeros(768),
    }
    put(tmp_path / "in/config.json", {**GOLDEN, "cell": {}, "emb_size": 48, "structure": []})
    torch.save(arrays, tmp_path / "in/pytorch_model.bin")
    report = convert(tmp_path / "in", tmp_path / "out")
    assert set(report.ignored) == {"cell", "emb_size", "structure"}
    values = json.loads((tmp_path / "out/config.json").read_text())
    assert values["model_type"] == "tinybert"
    case = cases["length-7"]
    mine = outputs(load_model(tmp_path / "out"), case)["mlm"]
    wanted = torch.relu(case["pooled"]) @ weight.T + bias
    torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-5)
    assert (wanted - (case["pooled"] @ weight.T + bias)).abs().max() > 0.1


@pytest.mark.parametrize("sharing", ["all", "attention", "ffn", "none"])
def test_albert_zh_goes_there_and_back_to_the_same_bits(tmp_path, sharing):
    parts = spell.draw(width=12, inner=20, layers=3, embed=6, mlm_width=12, norm_width=12)
    arrays = spell.tensorflow_albert_zh(parts, sharing)
    values = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 20}
    values |= {"embedding_size": 6, "vocab_size": 23, "hidden_act": "gelu", "max_position_embeddings": 16}
    values |= {"type_vocab_size": 2, "ln_type": "preln", "pooler_type": "first_token_transform"}
    put(tmp_path / "in/albert_config_tiny.json", values)
    write_tensorflow(tmp_path / "in/albert_model.ckpt", spell.with_slots(arrays))
    report = convert(tmp_path / "in", tmp_path / "hf")
    assert report.family.name == "albert_zh"
    written = json.loads((tmp_path / "hf/config.json").read_text())
    assert (written["model_type"], written["ln_type"], written["hidden_act"]) == (
        "albert_zh",
        "preln",
        "gelu_new",
    )
    convert(tmp_path / "hf", tmp_path / "back", to="tensorflow")
    assert_same_bits(read_tensorflow(tmp_path / "back/model.ckpt"), arrays)
    values = json.loads((tmp_path / "back/bert_config.json").read_text())
    assert values["hidden_act"] == "gelu"
    convert(tmp_path / "back/model.ckpt", tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "hf" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


# There and back


def assert_same_bits(mine, theirs):
    assert set(mine) == set(theirs)
    for name, array in theirs.items():
        assert mine[name].dtype == array.dtype, name
        assert torch.equal(mine[name], array), name


@pytest.mark.parametrize("name", KNOWN)
def test_a_folder_of_transformers_is_written_again_to_the_same_bits(tmp_path, name):
    convert(spell.GOLDEN / name, tmp_path / "out")
    assert_same_bits(
        load_file(tmp_path / "out/model.safetensors"), load_file(spell.GOLDEN / name / "model.safetensors")
    )
    mine = json.loads((tmp_path / "out/config.json").read_text())
    theirs = json.loads((spell.GOLDEN / name / "config.json").read_text())
    differ = {key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]}
    assert differ == set()
    convert(tmp_path / "out", tmp_path / "twice")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


@pytest.mark.parametrize("name", ["bert", "nezha-64", "albert", "albert-groups", "unilm"])
def test_to_tensorflow_and_back_to_the_same_bits(tmp_path, name):
    convert(spell.GOLDEN / name, tmp_path / "tf", to="tensorflow")
    stored = read_tensorflow(tmp_path / "tf/model.ckpt")
    make = spell.tensorflow_albert if name.startswith("albert") else spell.tensorflow_bert
    assert_same_bits(stored, make(spell.golden(name)[0]))
    back = convert(tmp_path / "tf/model.ckpt", tmp_path / "back")
    assert back.found.contradictions == ()
    assert_same_bits(
        load_file(tmp_path / "back/model.safetensors"), load_file(spell.GOLDEN / name / "model.safetensors")
    )


@pytest.mark.parametrize("name", ["bert", "ernie", "roberta"])
def test_to_paddle_and_back_to_the_same_bits_and_outputs(tmp_path, name):
    convert(spell.GOLDEN / name, tmp_path / "paddle", to="paddle")
    stored = read_paddle(tmp_path / "paddle/model_state.pdparams")
    wanted = spell.paddlenlp(spell.golden(name)[0], name)
    assert_same_bits(stored, wanted)
    convert(tmp_path / "paddle", tmp_path / "back")
    assert_same_bits(
        load_file(tmp_path / "back/model.safetensors"), load_file(spell.GOLDEN / name / "model.safetensors")
    )
    assert_golden(tmp_path / "back", spell.golden(name)[1])


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("xlm", "tensorflow"),
        ("xlm", "paddle"),
        ("roberta", "tensorflow"),
        ("nezha-64", "paddle"),
        ("albert", "paddle"),
    ],
)
def test_files_that_no_other_code_reads_are_not_made_up(tmp_path, name, to):
    with pytest.raises(
        ModelError, match=rf"{to} files of {name.partition('-')[0]} models are not known here"
    ):
        convert(spell.GOLDEN / name, tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()


def test_an_activation_that_the_other_code_lacks_is_warned_of(tmp_path):
    report = convert(spell.GOLDEN / "bert", tmp_path / "tf", to="tensorflow")
    assert any(one.startswith("WARNING") and "gelu" in one for one in report.remarks)


def test_half_precision_is_widened_to_the_same_numbers(tmp_path):
    parts, _ = spell.golden("bert")
    halves = {name: x.half() for name, x in spell.torch_bert(parts).items()}
    put(tmp_path / "in/config.json", {**GOLDEN, "torch_dtype": "float16"})
    torch.save(halves, tmp_path / "in/pytorch_model.bin")
    convert(tmp_path / "in", tmp_path / "out")
    made = load_file(tmp_path / "out/model.safetensors")
    assert {x.dtype for x in made.values()} == {torch.float32}
    assert all(torch.equal(x, halves[name].float()) for name, x in made.items())
    assert json.loads((tmp_path / "out/config.json").read_text())["torch_dtype"] == "float32"


# The report


@pytest.fixture
def source(tmp_path):
    """A folder of a small BERT, and ways to spoil it."""

    class Source:
        folder = tmp_path / "source"
        out = tmp_path / "out"

        def __init__(self):
            self.values = {"model_type": "bert", "architectures": ["BertForPreTraining"], "hidden_size": 8}
            self.values |= {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
            self.values |= {"vocab_size": 23, "max_position_embeddings": 16, "type_vocab_size": 2}
            self.arrays = spell.torch_bert(spell.draw())
            self.write()

        def write(self, **changes):
            self.values = {k: v for k, v in (self.values | changes).items() if v is not ...}
            put(self.folder / "config.json", self.values)
            save_file({k: x.contiguous() for k, x in self.arrays.items()}, self.folder / "model.safetensors")
            return self.folder

        def vocabulary(self, size, mask="[MASK]"):
            pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", mask, *(chr(0x4E00 + n) for n in range(size - 5))]
            put(self.folder / "vocab.txt", "\n".join(pieces) + "\n")

        def told(self):
            report = convert(self.folder, None)
            return report.as_json(), "\n".join(report.lines())

    return Source()


def test_inspect_writes_nothing_and_lists_every_tensor(source, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert main(["convert", str(source.folder), "--inspect"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name}  " in shown for name in source.arrays)
    assert "cls.predictions.decoder.weight  (23, 8)  → dropped" in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_half_a_head_is_left_out_whole_and_told(source):
    del source.arrays["cls.predictions.transform.dense.weight"]
    source.write()
    told, text = source.told()
    assert "MLM head" in told["missing"]
    assert {"cls.predictions.bias", "cls.predictions.transform.LayerNorm.bias"} <= set(told["unexpected"])
    assert told["mlm_head"] is None
    assert "heads          pooler, pair head" in text
    convert(source.folder, source.out)
    assert not [name for name in load_file(source.out / "model.safetensors") if "predictions" in name]
    assert json.loads((source.out / "config.json").read_text())["architectures"] == [
        "BertForNextSentencePrediction"
    ]


def test_a_missing_pooler_takes_the_pair_head_with_it(source):
    source.arrays = {name: x for name, x in source.arrays.items() if "pooler" not in name}
    told = (source.write(), source.told())[1][0]
    assert {"pooler", "pair head"} <= set(told["missing"])
    assert {"cls.seq_relationship.weight", "cls.seq_relationship.bias"} <= set(told["unexpected"])


@pytest.mark.parametrize(
    "bias", ["cls.predictions.bias", "bert.pooler.dense.bias", "cls.seq_relationship.bias"]
)
def test_a_missing_bias_is_0_and_told(source, bias):
    del source.arrays[bias]
    source.write()
    told, text = source.told()
    assert told["reinitialized"] == [bias]
    assert f"re-initialized {bias} (0)" in text
    convert(source.folder, source.out)
    assert not load_file(source.out / "model.safetensors")[bias].any()


def test_a_missing_tensor_of_the_encoder_is_an_error(source):
    del source.arrays["bert.encoder.layer.1.output.dense.weight"]
    source.write()
    with pytest.raises(
        ModelError, match=r"1 encoder tensors are missing: bert\.encoder\.layer\.1\.output\.dense\.weight"
    ):
        convert(source.folder, source.out)
    assert not source.out.exists()


def test_what_nothing_uses_is_named_and_what_has_no_place_in_the_encoder_is_an_error(source):
    source.arrays |= {
        "qa_outputs.weight": torch.zeros(2, 8),
        "bert.embeddings.position_ids": torch.arange(16)[None],
    }
    source.write()
    told, _ = source.told()
    assert told["unexpected"] == ["qa_outputs.weight"]
    assert "bert.embeddings.position_ids" in told["dropped"]
    source.arrays["bert.encoder.layer.0.attention.self.gate.weight"] = torch.zeros(2, 8)
    source.write()
    with pytest.raises(ModelError, match="encoder tensors that no bert model has"):
        source.told()


def test_what_a_config_says_otherwise_than_the_weights_is_told_and_not_believed(source):
    source.write(vocab_size=30522, num_hidden_layers=12, hidden_size=768, directionality="bidi", gap_size=0)
    told, text = source.told()
    assert len(told["contradictions"]) == 3
    assert "vocab_size is 30522; the weights have 23" in text
    assert told["ignored_config"] == ["directionality", "gap_size"]
    convert(source.folder, source.out)
    assert json.loads((source.out / "config.json").read_text())["vocab_size"] == 23
    load_model(source.out)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (None, "WARNING: none found; the model cannot read text"),
        (23, "23 pieces, a row each"),
        (20, "20 pieces for 23 rows: the last 3 rows are never read"),
        (30, "WARNING: 30 pieces for 23 rows: 7 pieces have no vector"),
    ],
)
def test_the_vocabulary_is_held_against_the_rows(source, size, told):
    if size:
        source.vocabulary(size)
    report = convert(source.folder, source.out)
    assert report.vocabulary == told
    assert (source.out / "tokenizer.json").is_file() == bool(size)
    assert told in (source.out / "README.md").read_text(encoding="utf-8")


def test_xlms_words_come_out_of_its_file_and_its_codes_are_missed(tmp_path):
    (tmp_path / "in").mkdir()
    path, _ = xlm(tmp_path / "in")
    assert convert(path, tmp_path / "out").vocabulary.startswith("WARNING: 101 pieces, but no merges.txt")
    assert json.loads((tmp_path / "out/vocab.json").read_text())["w7</w>"] == 7
    put(tmp_path / "in/merges.txt", "w 7 1\n")
    assert convert(path, tmp_path / "again").vocabulary == "101 pieces, a row each"
    assert (tmp_path / "again/merges.txt").is_file()


def test_a_vocabulary_without_a_mask_is_warned_of_and_the_weights_still_come(source):
    source.vocabulary(23, mask="x")
    report = convert(source.folder, source.out)
    assert report.vocabulary.startswith("WARNING: none that can be read (")
    assert "mask" in report.vocabulary.lower()
    assert load_model(source.out).config.vocab == 23


def test_a_damaged_tokenizer_config_is_told_of(source):
    source.vocabulary(23)
    put(source.folder / "tokenizer_config.json", "{")
    assert "tokenizer_config.json" in convert(source.folder, None).vocabulary
    assert convert(source.folder, None).vocabulary.startswith("WARNING")


def test_numbers_that_are_none_are_warned_of(source):
    source.arrays["bert.pooler.dense.bias"][3] = float("nan")
    source.write()
    told, _ = source.told()
    assert told["remarks"] == ["WARNING: NaN or infinity in 1 tensors: bert.pooler.dense.bias"]


@pytest.mark.parametrize("end", ["", ".index", ".data-00000-of-00001"])
def test_any_file_of_a_checkpoint_stands_for_it(tmp_path, end):
    write_tensorflow(tmp_path / "bert_model.ckpt", spell.tensorflow_bert(spell.draw()))
    put(tmp_path / "bert_config.json", {"num_attention_heads": 2})
    assert convert(tmp_path / f"bert_model.ckpt{end}", None).family.name == "bert"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"id2label": {"0": "a", "1": "b"}}, "id2label names 2 outputs, the classifier has 3"),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 1, "b": 0, "c": 2}},
            "id2label says that 0 is 'a', label2id that 'a' is 1",
        ),
    ],
)
def test_label_maps_that_disagree_are_an_error(source, labels, message):
    source.arrays = spell.torch_bert(spell.draw(heads=("pooler", "classifier")))
    source.write(architectures=["BertForSequenceClassification"], **labels)
    with pytest.raises(ModelError, match=message):
        convert(source.folder, source.out)


# Does the MLM head know anything?

SENTENCES = (
    "今天天气很好，我们一起去公园散步。",
    "中国的首都是北京，上海是最大的城市。",
    "他每天早上七点起床，八点去学校上课。",
    "这家酒店的服务很好，房间也很干净。",
    "学习语言最好的方法是多听多说多读多写。",
    "一年有十二个月，一个星期有七天。",
)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Folders of a fresh model and of one that has learned the sentences that the check asks."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys("".join(SENTENCES))]
    root = tmp_path_factory.mktemp("heads")
    model = build(None, family="bert", values={"layers": 2, "width": 32, "heads": 2, "dropout": 0.0}, vocab=len(pieces),
                  heads=HeadsConfig(mlm=True), seed=1)  # fmt: skip
    for name in ("fresh", "trained"):
        put(root / name / "vocab.txt", "\n".join(pieces) + "\n")
    save_model(model, root / "fresh")
    tokenizer = Tokenizer.load(root / "fresh")
    rows = [tokenizer.encode(text).ids for text in SENTENCES]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    vocabulary = tokenizer.vocabulary
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        batch, places, answers = [], [], []
        for row in rows * 4:
            framed = torch.tensor([vocabulary.cls, *row, vocabulary.sep])
            place = int(torch.randint(1, len(framed) - 1, (1,), generator=generator))
            answers.append(framed[place].clone())
            framed[place] = vocabulary.mask
            places.append(place)
            batch.append(framed)
        lengths = torch.tensor([len(one) for one in batch])
        at = lengths.cumsum(0) - lengths + torch.tensor(places)
        hidden = model.encode({"pieces": torch.cat(batch), "lengths": lengths}).last_TD[at]
        loss = torch.nn.functional.cross_entropy(model.mlm(hidden), torch.stack(answers))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_model(model.eval(), root / "trained")
    return root


@pytest.mark.slow
def test_a_trained_head_is_told_from_a_fresh_one_with_figures(heads, tmp_path):
    fresh = convert(heads / "fresh", None).health
    assert fresh.startswith("WARNING: looks RANDOM: ")
    assert " masked pieces are its first choice, loss " in fresh
    trained = convert(heads / "trained", tmp_path / "out").health
    assert trained.startswith("trained: ")
    share = int(trained.removeprefix("trained: ").partition("%")[0])
    assert share > 60
    assert trained in (tmp_path / "out/README.md").read_text(encoding="utf-8")
    checked = check_mlm(load_model(heads / "trained"), Tokenizer.load(heads / "trained"))
    assert checked.loss < 0.3 * checked.guessing


@pytest.mark.slow
def test_a_fresh_head_on_a_trained_encoder_looks_random(heads, tmp_path):
    """As RoBERTa-wwm-ext's files have had it: the encoder knows, the head was never filled."""
    tensors = load_file(heads / "trained/model.safetensors")
    tensors["cls.predictions.transform.dense.weight"] = torch.randn(32, 32) * 0.02
    for name in ("transform.dense.bias", "transform.LayerNorm.bias", "bias"):
        tensors[f"cls.predictions.{name}"].zero_()
    tensors["cls.predictions.transform.LayerNorm.weight"].fill_(1)
    for name in ("config.json", "vocab.txt"):
        put(tmp_path / "in" / name, (heads / "trained" / name).read_text(encoding="utf-8"))
    save_file(tensors, tmp_path / "in/model.safetensors")
    assert convert(tmp_path / "in", None).health.startswith("WARNING: looks RANDOM: ")
    (tmp_path / "in/vocab.txt").unlink()
    assert convert(tmp_path / "in", None).health.startswith(
        "WARNING: looks RANDOM: its bias is 0 for every piece"
    )


# Where it is written


def test_a_folder_that_is_there_is_kept_unless_asked(source):
    convert(source.folder, source.out)
    put(source.out / "mine.txt", "x")
    with pytest.raises(RunError, match="--overwrite"):
        convert(source.folder, source.out)
    assert (source.out / "mine.txt").is_file()
    convert(source.folder, source.out, overwrite=True)
    assert not (source.out / "mine.txt").exists()
    source.out.joinpath("file").touch()
    with pytest.raises(RunError, match="is there already"):
        convert(source.folder, source.out / "file")


def test_a_failed_conversion_leaves_the_old_folder(source):
    convert(source.folder, source.out)
    before = {path.name: path.read_bytes() for path in source.out.iterdir()}
    source.arrays["bert.pooler.dense.weight"] = torch.zeros(3, 8)
    source.write()
    with pytest.raises(ModelError, match=r"bert\.pooler\.dense\.weight is \(3, 8\)"):
        convert(source.folder, source.out, overwrite=True)
    assert {path.name: path.read_bytes() for path in source.out.iterdir()} == before


def test_a_full_disk_is_told_by_the_folder_and_leaves_nothing(source, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert_module, "write_json", full)
    with pytest.raises(DiskError, match=rf"cannot write .*{source.out.name}: No space left"):
        convert(source.folder, source.out)
    assert not source.out.exists()
    assert not [path for path in source.out.parent.iterdir() if path.name.startswith(".")]


def test_an_out_below_a_file_is_told(source, capsys):
    source.out.touch()
    assert main(["convert", str(source.folder), "--out", str(source.out / "x" / "y")]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--inspect", "--out", "x"]])
def test_out_and_inspect_are_one_or_the_other(source, capsys, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(source.folder), *words]) == 2
    assert "--inspect writes nothing" in capsys.readouterr().err


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no such file, folder or checkpoint"):
        convert(tmp_path / "nothing", None)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_as_people_download_them(source, tmp_path, kind, capsys):
    source.vocabulary(23)
    path = tmp_path / f"chinese.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in source.folder.iterdir():
                archive.write(file, f"chinese/{file.name}")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(source.folder, "chinese")
    assert main(["convert", str(path), "--out", str(source.out)]) == 0
    assert_same_bits(
        load_file(source.out / "model.safetensors"),
        {name: x for name, x in source.arrays.items() if "decoder" not in name},
    )
    assert f"{path}: bert, as Hugging Face names it" in capsys.readouterr().out


# Bad files, as a user meets them: one message, exit 2, nothing run, little memory


class Bomb:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def bad_pickle(folder):
    torch.save(
        {"bert.embeddings.word_embeddings.weight": Bomb(f"touch {folder}/it-ran")},
        folder / "pytorch_model.bin",
    )
    return folder, "not safe to read: it calls posix.system"


def away(folder):
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("../../it-ran", b"x")
    return folder / "model.zip", "would land outside the archive's folder"


def cut_tensorflow(folder):
    write_tensorflow(folder / "bert_model.ckpt", spell.tensorflow_bert(spell.draw()))
    put(folder / "bert_config.json", {"num_attention_heads": 2})
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-700])
    return folder / "bert_model.ckpt", "bert_model.ckpt"


def cut_safetensors(folder):
    save_file({"x": torch.zeros(99)}, folder / "model.safetensors")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-7])
    return folder, "model.safetensors: damaged"


def many_rows(folder):
    """A header that claims 10^9 rows of 1,024 numbers."""
    claim = {
        "bert.embeddings.word_embeddings.weight": {
            "dtype": "F32",
            "shape": [10**9, 1024],
            "data_offsets": [0, 8],
        }
    }
    head = json.dumps(claim).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    return folder, "model.safetensors: damaged"


def many_rows_of_a_view(folder):
    """A pickle whose one number is seen as 10^9 rows, by strides of 0."""
    arrays = spell.torch_bert(spell.draw(heads=()))
    arrays["bert.embeddings.word_embeddings.weight"] = torch.zeros(1).as_strided((10**9, 8), (0, 0))
    torch.save(arrays, folder / "pytorch_model.bin")
    return folder, "pytorch_model.bin"


def wrong_config_rows(folder):
    save_file(
        {k: x.contiguous() for k, x in spell.torch_bert(spell.draw(layers=1)).items()},
        folder / "model.safetensors",
    )
    put(folder / "config.json", {"model_type": "bert", "num_attention_heads": 3, "vocab_size": 10**9})
    return folder, "not a multiple of heads"


def many_layers(folder):
    """ALBERT's one layer, said to be repeated 10^9 times."""
    save_file(
        {
            k: x.contiguous()
            for k, x in spell.torch_albert(spell.draw(embed=4, layers=1, mlm_width=4)).items()
        },
        folder / "model.safetensors",
    )
    put(
        folder / "config.json", {"model_type": "albert", "num_attention_heads": 2, "num_hidden_layers": 10**9}
    )
    return folder, "layers"


def wrong_shapes(folder):
    arrays = spell.torch_bert(spell.draw(layers=1))
    arrays["bert.encoder.layer.0.output.dense.weight"] = torch.zeros(12, 8)
    save_file({k: x.contiguous() for k, x in arrays.items()}, folder / "model.safetensors")
    put(folder / "config.json", {"num_attention_heads": 2})
    return folder, "bert.encoder.layer.0.output.dense.weight is (12, 8)"


def swapped_albert(folder):
    parts = spell.draw(width=12, inner=20, layers=1, embed=6, mlm_width=12, norm_width=12)
    write_tensorflow(folder / "albert_model.ckpt", spell.tensorflow_albert_zh(parts))
    put(folder / "config.json", {"model_type": "albert", "num_attention_heads": 2, "num_hidden_layers": 3})
    return folder, "says albert, but albert_model.ckpt holds a model of family albert_zh"


def labels_disagree(folder):
    save_file(
        {k: x.contiguous() for k, x in spell.torch_bert(spell.draw(heads=("pooler", "classifier"))).items()},
        folder / "model.safetensors",
    )
    values = {"architectures": ["BertForSequenceClassification"], "num_attention_heads": 2}
    put(folder / "config.json", {**values, "id2label": {"0": "a"}, "model_type": "bert"})
    return folder, "id2label names 1 outputs, the classifier has 3"


def numbers_alone(folder):
    torch.save(torch.zeros(3), folder / "pytorch_model.bin")
    return folder, "one tensor without a name"


def text(folder):
    put(folder / "readme.bin", "not weights\n")
    return folder / "readme.bin", "readme.bin"


def no_config(folder):
    torch.save(spell.torch_bert(spell.draw()), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin", "nothing says how many heads"


def config_of_nonsense(folder):
    torch.save(spell.torch_bert(spell.draw()), folder / "pytorch_model.bin")
    put(
        folder / "config.json",
        {"num_attention_heads": 2, "architectures": 7, "id2label": [1], "model_type": ["bert"]},
    )
    return folder, "config.json"


def config_of_an_integer_too_large(folder):
    torch.save(spell.torch_bert(spell.draw()), folder / "pytorch_model.bin")
    put(folder / "config.json", {"num_attention_heads": -2, "hidden_dropout_prob": 7})
    return folder, "heads"


def int8(folder):
    arrays = spell.torch_bert(spell.draw())
    arrays["bert.pooler.dense.weight"] = torch.ones(8, 8, dtype=torch.int8)
    torch.save(arrays, folder / "pytorch_model.bin")
    put(folder / "config.json", {"num_attention_heads": 2})
    return folder, "bert.pooler.dense.weight holds int8 numbers"


def infinite_config(folder):
    torch.save(spell.torch_bert(spell.draw()), folder / "pytorch_model.bin")
    put(folder / "config.json", '{"num_attention_heads": 2, "layer_norm_eps": 1e999}')
    return folder, "layer_norm_eps is inf"


def labels_that_are_a_list(folder):
    torch.save(spell.torch_bert(spell.draw()), folder / "pytorch_model.bin")
    put(folder / "config.json", {"num_attention_heads": 2, "id2label": ["a"]})
    return folder, "id2label is ['a'], not a table"


def nearly_a_checkpoint(folder):
    cut_tensorflow(folder)
    return folder / "bert_model", "Did you mean 'bert_model.ckpt'?"


BAD = (
    int8,
    infinite_config,
    labels_that_are_a_list,
    nearly_a_checkpoint,
    bad_pickle, away, cut_tensorflow, cut_safetensors, many_rows, many_rows_of_a_view, wrong_config_rows, many_layers,
    wrong_shapes, swapped_albert, labels_disagree, numbers_alone, text, no_config, config_of_nonsense,
    config_of_an_integer_too_large,
)  # fmt: skip


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_bad_file_is_one_message_and_leaves_nothing(make, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    source, message = make(folder)
    assert main(["convert", str(source), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    assert message in told.err
    assert len(told.err.strip().splitlines()) <= 3, told.err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("it-ran"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [many_rows, many_rows_of_a_view, bad_pickle, many_layers], ids=lambda make: make.__name__
)
def test_a_bad_file_in_a_process_of_its_own_takes_little_memory(make, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    source, message = make(folder)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    code = (
        "import resource, sys, fenghuo.models.convert, fenghuo.cli; start = resource.getrusage(0).ru_maxrss;"
        "code = fenghuo.cli.main(sys.argv[1:]); print(resource.getrusage(0).ru_maxrss - start); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "convert", str(source), "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert int(done.stdout.split()[-1]) < 100_000, "kilobytes"
    assert before >= 0


def test_what_the_other_code_has_as_a_number_of_its_own_is_warned_of(tmp_path):
    """NEZHA-TensorFlow clips at 64, whatever a configuration says."""
    folder = tmp_path / "nezha"
    save_model(
        build(
            None,
            family="nezha",
            values={**TINY, "relative_clip": 127},
            vocab=30,
            heads=HeadsConfig(),
            seed=0,
        ),
        folder,
    )
    report = convert(folder, tmp_path / "out", to="tensorflow")
    assert any("relative_clip 64; this model has 127" in remark for remark in report.remarks)


def test_a_run_stands_for_its_model(tmp_path):
    run = tmp_path / "run"
    save_model(
        build("nezha-4l-312", family=None, values=TINY, vocab=30, heads=HeadsConfig(), seed=0), run / "model"
    )
    put(run / "result.json", {})
    assert convert(run, None).family.name == "nezha"
