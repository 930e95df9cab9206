"""ALBERT as Google released it: one set of weights for all layers, and a narrow embedding that is widened."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, SPAN_BOUNDARY_RULES, Family, embedding_rules
from fenghuo.models.names import Form
from fenghuo.models.tensorflow_names import ALBERT_TENSORFLOW

_LAYER = "albert.encoder.albert_layer_groups.{n}.albert_layers.0"
ALBERT = Family(
    name="albert",
    citation="Lan et al. 2019, arXiv 1909.11942",
    class_name="Albert",
    form=Form(
        name="Hugging Face",
        target="huggingface",
        rules=(
            *embedding_rules("albert"),
            ("encoder.embed.project", "albert.encoder.embedding_hidden_mapping_in"),
            ("encoder.attentions.{n}.query", f"{_LAYER}.attention.query"),
            ("encoder.attentions.{n}.key", f"{_LAYER}.attention.key"),
            ("encoder.attentions.{n}.value", f"{_LAYER}.attention.value"),
            ("encoder.attentions.{n}.out", f"{_LAYER}.attention.dense"),
            ("encoder.attentions.{n}.norm", f"{_LAYER}.attention.LayerNorm"),
            ("encoder.feeds.{n}.inner", f"{_LAYER}.ffn"),
            ("encoder.feeds.{n}.outer", f"{_LAYER}.ffn_output"),
            ("encoder.feeds.{n}.norm", f"{_LAYER}.full_layer_layer_norm"),
            ("pooler.dense", "albert.pooler"),
            ("mlm.dense", "predictions.dense"),
            ("mlm.norm", "predictions.LayerNorm"),
            ("mlm.bias", "predictions.bias"),
            ("pair.out", "sop_classifier.classifier"),
            ("head.out", "classifier"),
            *SPAN_BOUNDARY_RULES,
        ),
        tied={
            "predictions.decoder.weight": "encoder.embed.tables.words.weight",
            "predictions.decoder.bias": "mlm.bias",
        },
        dropped=(r".*\.embeddings\.(position_ids|token_type_ids)",),
        prefixes=("albert.",),
    ),
    released=(ALBERT_TENSORFLOW,),
    config_keys={**BERT_KEYS, "embedding_size": "embed_width", "num_hidden_groups": "layer_groups"},
    defaults={
        "position": "learned",
        "embed_width": 128,
        "layer_groups": 1,
        "activation": "gelu_new",
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    fixed={"inner_group_num": 1, "position_embedding_type": "absolute"},
    head_dropout_key="classifier_dropout_prob",
    presets={
        "albert-tiny-zh": {"layers": 4, "width": 312, "heads": 12, "inner_width": 1248},
        "albert-small-zh": {
            "layers": 6,
            "width": 384,
            "heads": 12,
            "inner_width": 1536,
        },  # Google's form, albert_zh's
        "albert-base": {"layers": 12, "width": 768, "heads": 12, "inner_width": 3072},
        "albert-large": {"layers": 24, "width": 1024, "heads": 16, "inner_width": 4096},
        "albert-xlarge": {"layers": 24, "width": 2048, "heads": 16, "inner_width": 8192},
        "albert-xxlarge": {"layers": 12, "width": 4096, "heads": 64, "inner_width": 16384},
    },
)
