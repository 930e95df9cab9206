"""Family, form and shape of released files from their names, spelled out as each project's own code spells them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from tests.models import spellings as spell

from fenghuo.errors import ModelError
from fenghuo.models.recognize import recognize
from fenghuo.models.released.stored import Stored

CHINESE = {"vocab": 21128, "width": 768, "inner": 3072, "layers": 12, "positions": 512, "device": "meta"}
ALBERT = {**CHINESE, "embed": 128, "layers": 1}
ALBERT_ZH = {**ALBERT, "mlm_width": 768, "norm_width": 768}
XLM = {"vocab": 95000, "width": 1024, "inner": 4096, "layers": 12, "positions": 512, "segments": 0}
BERT_CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 21128,
}
ERNIE_1 = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "max_position_embeddings": 513,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 2,
    "vocab_size": 18000,
}
ERNIE_2 = {
    **{key: value for key, value in ERNIE_1.items() if key != "type_vocab_size"},
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "vocab_size": 30522,
    "sent_type_vocab_size": 4,
    "task_type_vocab_size": 16,
    "use_task_id": True,
}
TINY = {"vocab": 21128, "width": 312, "inner": 1200, "layers": 4, "positions": 512, "device": "meta"}


def stored(arrays):
    """As a reader gives them; where copies are compared, all are alike."""
    return Stored(
        path=Path("weights"),
        format="pytorch",
        shapes={name: tuple(x.shape) for name, x in arrays.items()},
        read=lambda name: torch.zeros(1, 1),
    )


def found(arrays, values=None):
    return recognize(stored(arrays), values or {}, Path("config.json"))


def fit_dense(width, *numbers):
    scopes = [f"fit_denses.{n}" for n in numbers] or ["fit_dense"]
    return {
        f"{scope}.{end}": torch.empty(shape, device="meta")
        for scope in scopes
        for end, shape in (("weight", (768, width)), ("bias", (768,)))
    }


def buffers(layers=12):
    """What NEZHA-PyTorch stores of its formula: 64 MiB a layer."""
    scope = "bert.encoder.layer.{}.attention.self.relative_positions_encoding"
    return {scope.format(n): torch.empty(512, 512, 64, device="meta") for n in range(layers)}


def draw(**changes):
    return spell.draw(**{**CHINESE, **changes})


HF, TF = "Hugging Face", "TensorFlow 1"
# name → (arrays, family, form): every shape is a published one, so that nothing but the names need be there.
PUBLISHED = {
    "Google's BERT": (lambda: spell.tensorflow_bert(draw()), "bert", TF),
    "Google's BERT with Adam's slots": (
        lambda: spell.with_slots(spell.tensorflow_bert(draw())),
        "bert",
        TF,
    ),
    "RoBERTa-wwm-ext is BERT": (lambda: spell.tensorflow_bert(draw(heads=("pooler", "mlm"))), "bert", TF),
    "BERT of transformers": (lambda: spell.torch_bert(draw()), "bert", HF),
    "BERT without heads, nor a prefix": (lambda: spell.torch_bert(draw(heads=("pooler",)), ""), "bert", HF),
    "BERT of 2018, gamma and beta": (lambda: spell.gamma_beta(spell.torch_bert(draw())), "bert", HF),
    "BERT behind a parallel wrapper": (
        lambda: {f"module.{name}": x for name, x in spell.torch_bert(draw()).items()},
        "bert",
        HF,
    ),
    "RBT3": (lambda: spell.torch_bert(draw(layers=3)), "bert", HF),
    "UniLM": (
        lambda: spell.gamma_beta(spell.torch_bert(draw(vocab=28996, segments=6, heads=("pooler", "mlm")))),
        "bert",
        HF,
    ),
    "BERT of PaddleNLP": (lambda: spell.paddlenlp(draw(), "bert"), "bert", "PaddleNLP"),
    "NEZHA with LAMB's slots": (
        lambda: spell.with_slots(spell.tensorflow_bert(draw(positions=0)), "lamb"),
        "nezha",
        TF,
    ),
    "NEZHA of PyTorch": (
        lambda: spell.gamma_beta(spell.torch_bert(draw(positions=0))) | buffers(),
        "nezha",
        HF,
    ),
    "NEZHA of transformers": (lambda: spell.torch_bert(draw(positions=0), "nezha."), "nezha", HF),
    "TinyBERT, general, version 1": (
        lambda: spell.torch_bert(spell.draw(**TINY)) | fit_dense(312),
        "bert",
        HF,
    ),
    "TinyBERT, general, version 2": (
        lambda: spell.torch_bert(spell.draw(**TINY)) | fit_dense(312, *range(5)),
        "bert",
        HF,
    ),
    "TinyBERT, fine-tuned": (
        lambda: spell.torch_bert(spell.draw(**{**TINY, "heads": ("pooler", "classifier")})) | fit_dense(312),
        "tinybert",
        HF,
    ),
    "albert_zh": (
        lambda: spell.tensorflow_albert_zh(spell.draw(**{**ALBERT_ZH, "layers": 12}), "none"),
        "albert_zh",
        "TensorFlow 1, albert_zh, sharing none",
    ),
    "albert_zh sharing attention": (
        lambda: spell.tensorflow_albert_zh(spell.draw(**{**ALBERT_ZH, "layers": 12}), "attention"),
        "albert_zh",
        "TensorFlow 1, albert_zh, sharing attention",
    ),
    "albert_zh sharing feed-forward": (
        lambda: spell.tensorflow_albert_zh(spell.draw(**{**ALBERT_ZH, "layers": 12}), "ffn"),
        "albert_zh",
        "TensorFlow 1, albert_zh, sharing ffn",
    ),
    "RoBERTa of fairseq": (
        lambda: spell.fairseq(draw(vocab=50265, positions=514, segments=0)),
        "roberta",
        "fairseq",
    ),
    "RoBERTa of old fairseq": (
        lambda: spell.fairseq(
            draw(vocab=50265, positions=514, segments=0), top="decoder.", old_norm=True, fused=True
        ),
        "roberta",
        "fairseq",
    ),
    "RoBERTa of transformers": (
        lambda: spell.torch_roberta(draw(vocab=50265, positions=514, segments=1)),
        "roberta",
        HF,
    ),
    "RoBERTa of PaddleNLP": (
        lambda: spell.paddlenlp(
            draw(vocab=50265, positions=514, segments=1, heads=("pooler", "mlm")), "roberta"
        ),
        "roberta",
        "PaddleNLP",
    ),
    "ERNIE 1.0, persistables": (
        lambda: spell.persistables(draw(vocab=18000, positions=513)),
        "ernie",
        "Paddle persistables",
    ),
    "ERNIE 2.0, persistables": (
        lambda: spell.persistables(draw(vocab=30522, segments=4, tasks=16)),
        "ernie",
        "Paddle persistables",
    ),
    "ERNIE 3.0 of PaddleNLP": (
        lambda: spell.paddlenlp(draw(vocab=40000, positions=2048, segments=4, tasks=3), "ernie"),
        "ernie",
        "PaddleNLP",
    ),
    "ERNIE of transformers": (
        lambda: spell.torch_bert(draw(vocab=40000, positions=2048, segments=4, tasks=3), "ernie."),
        "ernie",
        HF,
    ),
    "XLM's own, 15 languages": (
        lambda: spell.torch_xlm(spell.draw(**XLM, languages=15, heads=("mlm",), device="meta")),
        "xlm",
        HF,
    ),
    "XLM of transformers": (
        lambda: spell.torch_xlm(
            spell.draw(**XLM, languages=15, heads=("mlm",), device="meta"), "transformer."
        ),
        "xlm",
        HF,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_is_known_by_its_names_and_shapes_alone(name):
    make, family, form = PUBLISHED[name]
    arrays = make()
    told = found(arrays)
    assert (told.family.name, told.weights.form.name) == (family, form)
    assert told.weights.unexpected == told.contradictions == ()
    lost = {key for key in arrays if key not in told.weights.renamed and key not in told.weights.dropped}
    assert not lost
    assert told.config.width // told.config.heads in (26, 64, 128)
    assert told.config.inner_width == next(
        max(x.shape)
        for key, x in arrays.items()
        if any(one in key for one in ("intermediate", "linear1", "fc1", "ffn_fc_0", "lin1"))
    )
    words = next(
        x
        for key, x in arrays.items()
        if "word_embedding" in key or "embed_tokens" in key or "embeddings.weight" in key
    )
    assert told.config.vocab == words.shape[0]


@pytest.mark.parametrize("family", ["albert", "albert_zh"])
def test_how_often_a_shared_layer_repeats_no_name_tells_so_the_config_is_asked_for(family):
    arrays = {
        "albert": lambda: spell.tensorflow_albert(spell.draw(**ALBERT)),
        "albert_zh": lambda: spell.tensorflow_albert_zh(spell.draw(**ALBERT_ZH)),
    }[family]()
    told = found(arrays, {"num_hidden_layers": 12})
    assert told.family.name == family
    assert any("heads: 12" in one for one in told.remarks)
    assert (told.config.layers, told.config.layer_groups) == (12, 1)
    with pytest.raises(ModelError, match="num_hidden_layers"):
        found(spell.tensorflow_albert(spell.draw(**{**ALBERT, "width": 512, "inner": 2048})))


@pytest.mark.parametrize(
    ("make", "family"), [(spell.tensorflow_albert, "albert"), (spell.torch_albert, "albert")]
)
def test_albert_of_google_and_of_transformers(make, family):
    told = found(make(spell.draw(**ALBERT)), {"num_hidden_layers": 12, "num_attention_heads": 12})
    assert told.family.name == family
    assert told.config.embed_width == 128
    assert told.config.activation == "gelu_new"
    assert told.heads.mlm
    assert told.heads.pair


# Configurations as they were released: every key of them is used, or named as one that changes nothing.


def test_googles_config_of_bert_and_its_word_gelu():
    told = found(spell.tensorflow_bert(draw()), BERT_CONFIG)
    assert told.contradictions == ()
    assert told.config.activation == "gelu_new"
    assert told.config.norm_eps == 1e-12
    assert any("'gelu' in TensorFlow 1 code is gelu_new" in one for one in told.remarks)
    assert {key for key in told.ignored if not key.startswith("pooler_")} == {"directionality"}
    torchs = found(spell.torch_bert(draw()), BERT_CONFIG)
    assert torchs.config.activation == "gelu"
    assert torchs.remarks == ()


def test_nezhas_config():
    values = {**BERT_CONFIG, "use_relative_position": True}
    told = found(spell.tensorflow_bert(draw(positions=0)), values)
    assert (told.family.name, told.config.relative_clip) == ("nezha", 64)
    english = {**values, "max_relative_position": 127, "vocab_size": 28996}
    told = found(spell.gamma_beta(spell.torch_bert(draw(positions=0, vocab=28996))), english)
    assert told.config.relative_clip == 127
    with pytest.raises(ModelError, match="use_relative_position is False"):
        found(spell.tensorflow_bert(draw(positions=0)), {**BERT_CONFIG, "use_relative_position": False})


def test_the_config_of_albert_tiny_of_albert_zh():
    values = {
        **{key: value for key, value in BERT_CONFIG.items() if "dropout" not in key},
        **{"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "hidden_size": 312},
        **{"embedding_size": 128, "intermediate_size": 1248, "num_hidden_layers": 4, "ln_type": "postln"},
    }
    parts = spell.draw(**{**ALBERT_ZH, "width": 312, "inner": 1248, "mlm_width": 312, "norm_width": 312})
    told = found(spell.tensorflow_albert_zh(parts), values)
    assert (told.family.name, told.config.layers, told.config.layer_groups) == ("albert_zh", 4, 1)
    assert (told.config.widen, told.config.norm_first, told.config.activation) == (
        "words",
        False,
        "gelu_new",
    )
    assert told.contradictions == ()


def test_the_config_of_googles_albert():
    values = {
        **{key: value for key, value in BERT_CONFIG.items() if not key.startswith("pooler")},
        **{"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0, "embedding_size": 128},
        **{"num_hidden_groups": 1, "inner_group_num": 1, "gap_size": 0, "num_memory_blocks": 0},
        **{"net_structure_type": 0, "down_scale_factor": 1},
    }
    told = found(spell.tensorflow_albert(spell.draw(**ALBERT)), values)
    assert told.family.name == "albert"
    assert {"gap_size", "down_scale_factor"} <= set(told.ignored)
    with pytest.raises(ModelError, match="inner_group_num is 2"):
        found(spell.tensorflow_albert(spell.draw(**ALBERT)), {**values, "inner_group_num": 2})


@pytest.mark.parametrize(
    ("make", "mine", "named", "theirs"),
    [
        (spell.tensorflow_albert, "albert", "albert_zh", ALBERT),
        (spell.tensorflow_albert_zh, "albert_zh", "albert", ALBERT_ZH),
        (spell.torch_albert, "albert", "albert_zh", ALBERT),
    ],
)
def test_the_two_alberts_under_each_others_name_are_an_error_that_names_both(make, mine, named, theirs):
    values = {**BERT_CONFIG, "model_type": named, "embedding_size": 128}
    with pytest.raises(ModelError, match=rf"says {named}\b.*\n?.*{mine}\b"):
        found(make(spell.draw(**theirs)), values)


@pytest.mark.parametrize(
    ("named", "arrays", "mine"),
    [
        ("bert", lambda: spell.tensorflow_bert(draw(positions=0)), "nezha"),
        ("nezha", lambda: spell.torch_bert(draw()), "bert"),
        ("bert", lambda: spell.torch_roberta(draw(segments=1)), "roberta"),
        ("roberta", lambda: spell.torch_bert(draw()), "bert"),
        ("bert", lambda: spell.torch_albert(spell.draw(**ALBERT)), "albert"),
        ("xlm", lambda: spell.torch_bert(draw()), "bert"),
    ],
)
def test_a_config_of_another_family_is_an_error_that_names_both(named, arrays, mine):
    with pytest.raises(ModelError, match=rf"says {named}\b.*\n?.*{mine}\b"):
        found(arrays(), {**BERT_CONFIG, "model_type": named})


def test_the_epsilon_is_that_of_the_code_that_made_the_file():
    ernie = draw(vocab=18000, positions=513)
    assert found(spell.persistables(ernie), ERNIE_1).config.norm_eps == 1e-5  # fluid's own
    assert found(spell.paddlenlp(ernie, "ernie"), ERNIE_1).config.norm_eps == 1e-12  # set by its init_weights
    assert found(spell.paddlenlp(draw(), "bert"), BERT_CONFIG).config.norm_eps == 1e-12
    told = found(spell.torch_bert(ernie, "ernie."), {**ERNIE_1, "layer_norm_eps": 1e-7})
    assert told.config.norm_eps == 1e-7


def test_ernies_two_configs():
    told = found(spell.persistables(draw(vocab=18000, positions=513)), ERNIE_1)
    assert (told.family.name, told.config.activation, told.config.norm_eps) == ("ernie", "relu", 1e-5)
    assert (told.config.max_length, told.config.segments, told.config.tasks) == (513, 2, 0)
    assert told.contradictions == told.ignored == ()
    told = found(spell.persistables(draw(vocab=30522, segments=4, tasks=16)), ERNIE_2)
    assert (told.config.activation, told.config.segments, told.config.tasks) == ("gelu", 4, 16)
    assert told.contradictions == ()


def test_xlms_params():
    params = {
        **{"n_words": 95000, "emb_dim": 1024, "n_layers": 12, "n_heads": 8, "dropout": 0.1, "n_langs": 15},
        **{"attention_dropout": 0.1, "gelu_activation": True, "sinusoidal_embeddings": False, "asm": False},
        **{"share_inout_emb": True, "lg_sampling_factor": -1, "word_pred": 0.15, "encoder_only": True},
    }
    parts = spell.draw(**XLM, languages=15, heads=("mlm",), device="meta")
    told = found(spell.torch_xlm(parts), params)
    assert told.contradictions == ()
    assert (told.config.heads, told.config.languages, told.config.activation) == (8, 15, "gelu")
    one = spell.draw(**XLM, languages=0, heads=("mlm",), device="meta")
    assert found(spell.torch_xlm(one), {**params, "n_langs": 1}).config.languages == 0
    told = found(spell.torch_xlm(one), {**params, "use_lang_emb": False})
    assert (told.config.languages, told.contradictions) == (0, ())
    with pytest.raises(ModelError, match="sinusoidal_embeddings is True"):
        found(spell.torch_xlm(parts), {**params, "sinusoidal_embeddings": True})


def test_fairseqs_arguments():
    values = vars(
        argparse.Namespace(
            arch="roberta_base",
            encoder_layers=12,
            encoder_embed_dim=768,
            encoder_ffn_embed_dim=3072,
            encoder_attention_heads=12,
            activation_fn="gelu",
            pooler_activation_fn="tanh",
            dropout=0.1,
            attention_dropout=0.1,
            max_positions=512,
        )
    )
    told = found(spell.fairseq(draw(vocab=50265, positions=514, segments=0)), values)
    assert (told.family.name, told.config.norm_eps, told.config.first_position) == ("roberta", 1e-5, 2)
    assert (told.config.segments, told.config.heads, told.config.activation) == (1, 12, "gelu")
    assert told.weights.zeros == {"encoder.embed.tables.segments.weight"}


def test_tinyberts_config_and_its_relu():
    values = {
        **{"attention_probs_dropout_prob": 0.1, "cell": {}, "emb_size": 312, "hidden_act": "gelu"},
        **{"hidden_dropout_prob": 0.1, "hidden_size": 312, "initializer_range": 0.02, "structure": []},
        **{"intermediate_size": 1200, "max_position_embeddings": 512, "num_attention_heads": 12},
        **{"num_hidden_layers": 4, "pre_trained": "", "training": "", "type_vocab_size": 2},
        **{"vocab_size": 21128},
    }
    general = spell.torch_bert(spell.draw(**TINY)) | fit_dense(312, *range(5))
    told = found(general, values)
    assert (told.family.name, told.config.pooled_relu, told.heads.task) == ("bert", False, None)
    assert {"cell", "emb_size", "structure", "pre_trained", "training"} == set(told.ignored)
    assert len([name for name in told.weights.dropped if name.startswith("fit_dense")]) == 10
    tuned = spell.torch_bert(spell.draw(**{**TINY, "heads": ("pooler", "classifier")})) | fit_dense(312)
    told = found(tuned, values)
    assert (told.family.name, told.config.pooled_relu, told.heads.task) == ("tinybert", True, "classify")
    assert told.heads.outputs == 3


def test_tinyberts_relu_is_not_lost_where_its_config_says_bert():
    """Huawei's files on the Hub say so, and its code copies what they say into what it fine-tunes."""
    tuned = spell.torch_bert(spell.draw(**{**TINY, "heads": ("pooler", "classifier")})) | fit_dense(312)
    told = found(tuned, {"model_type": "bert", "num_attention_heads": 12})
    assert (told.family.name, told.config.pooled_relu) == ("tinybert", True)
    assert any("relu" in one for one in told.remarks)


def test_a_classifier_of_bert_is_not_taken_for_tinyberts():
    arrays = spell.torch_bert(draw(heads=("pooler", "classifier")))
    with pytest.raises(ModelError, match="has a classifier, but `architectures`"):
        found(arrays)
    told = found(arrays, {"architectures": ["BertForSequenceClassification"]})
    assert (told.family.name, told.config.pooled_relu, told.heads.outputs) == ("bert", False, 3)
    told = found(
        spell.torch_bert(draw(heads=("classifier",))), {"architectures": ["BertForTokenClassification"]}
    )
    assert (told.heads.task, told.heads.pooler) == ("tag", False)


def test_robertas_of_paddlenlp_that_count_places_from_0_are_not_read_from_2():
    """PaddleNLP's roberta-wwm-ext is BERT under RoBERTa's names: two segments, 512 places."""
    arrays = spell.paddlenlp(draw(heads=("pooler", "mlm")), "roberta")
    for values in ({}, {"architectures": ["RobertaForMaskedLM"], "pad_token_id": 0}):
        told = found(arrays, values)
        assert (told.family.name, told.config.first_position, told.config.max_length) == ("bert", 0, 512)
        assert told.heads.mlm
    assert any("places from 0" in one for one in told.remarks)
    english = spell.paddlenlp(draw(positions=514, segments=1, heads=("pooler", "mlm")), "roberta")
    assert found(english, {"architectures": ["RobertaForMaskedLM"]}).config.first_position == 2


@pytest.mark.parametrize(
    ("tables", "activation", "told"),
    [
        ({"vocab": 18000, "positions": 513}, "relu", "relu, as ernie-1.0-base has"),
        ({"vocab": 30522, "segments": 4, "tasks": 16}, "gelu", "gelu, as ernie-2.0-base has"),
        ({"vocab": 18000, "positions": 256}, "gelu", "WARNING: no config says hidden_act"),
    ],
)
def test_ernies_activation_is_never_guessed_in_silence(tables, activation, told):
    found_ = found(spell.persistables(draw(**tables)), {"num_attention_heads": 12})
    assert found_.config.activation == activation
    assert any(told in one for one in found_.remarks)


def test_weights_are_believed_before_a_config_that_contradicts_them():
    values = {**BERT_CONFIG, "vocab_size": 30522, "num_hidden_layers": 24, "hidden_size": 1024}
    told = found(spell.torch_bert(draw()), values)
    assert len(told.contradictions) == 3
    assert "num_hidden_layers is 24; the weights have 12" in told.contradictions
    assert (told.config.vocab, told.config.layers, told.config.width) == (21128, 12, 768)


def test_heads_that_no_width_of_a_published_model_tells_are_asked_for():
    arrays = spell.torch_bert(draw(width=640, inner=2560))
    with pytest.raises(ModelError, match=r"how many heads .* config\.json with num_attention_heads"):
        found(arrays)


@pytest.mark.parametrize(
    "arrays",
    [
        {"transformer.wte.weight": (50257, 768), "transformer.wpe.weight": (1024, 768)},  # GPT-2
        {"distilbert.embeddings.word_embeddings.weight": (30522, 768)},
        {"electra.embeddings.word_embeddings.weight": (30522, 768)},
        {"bert.embeddings.word_embedding.weight": (30522, 768)},
        {},
    ],
)
def test_files_of_no_family_here_are_an_error(arrays):
    with pytest.raises(ModelError, match="its tensors are not those of any family known here"):
        found({name: torch.empty(shape, device="meta") for name, shape in arrays.items()})


@pytest.mark.parametrize("shape", [(), (768,), (0, 768), (5, 0), (2, 3, 4)])
def test_a_table_of_words_that_is_no_table_is_an_error(shape):
    arrays = spell.torch_bert(draw(heads=("pooler",)))
    arrays["bert.embeddings.word_embeddings.weight"] = torch.empty(shape, device="meta")
    with pytest.raises(ModelError):
        found(arrays)
