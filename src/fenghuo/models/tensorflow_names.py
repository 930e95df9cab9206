"""Tensor names of TensorFlow 1 checkpoints: BERT's, which NEZHA shares, and those of the two ALBERTs."""

from __future__ import annotations

from collections.abc import Mapping

from fenghuo.models.family import bert_rules
from fenghuo.models.names import Form, Rules, Spelling

TENSORFLOW = Spelling(weight="/kernel", bias="/bias", gain="/gamma", shift="/beta", table="", transposed=True)


def with_slashes(rules: Rules, changes: Mapping[str, str]) -> Rules:
    """Dotted names as TensorFlow's scopes spell them, with the names that differ.

    Args:
        changes: our name → theirs; an empty one leaves the rule out.
    """
    out = []
    for ours, theirs in rules:
        if ours not in changes:
            out.append((ours, theirs.replace(".layer.{n}.", "/layer_{n}/").replace(".", "/")))
    return (*out, *((ours, theirs) for ours, theirs in changes.items() if theirs))


TF_CLS = {
    "mlm.bias": "cls/predictions/output_bias",
    "pair.out": "",
    "pair.out.weight": "cls/seq_relationship/output_weights",
    "pair.out.bias": "cls/seq_relationship/output_bias",
    "head.out": "",
    "head.out.weight": "output_weights",
    "head.out.bias": "output_bias",
}
"""Where TF1 scripts differ from dotted names: these matrices lie as torch's do."""

# "gelu" is the tanh form in modeling.py of google-research/bert and albert, NEZHA-TensorFlow and albert_zh.
TF_DEFAULTS = {"activation": "gelu_new", "norm_eps": 1e-12}
TF_MEANS = {"gelu": "gelu_new"}

BERT_TENSORFLOW = Form(
    name="TensorFlow 1",
    target="tensorflow",
    rules=with_slashes(bert_rules("bert"), TF_CLS),
    spelling=TENSORFLOW,
    prefixes=("bert/",),
    defaults=TF_DEFAULTS,
    means=TF_MEANS,
)


_GROUP = "bert/encoder/transformer/group_{n}/inner_group_0"

ALBERT_TENSORFLOW = Form(
    name="TensorFlow 1, Google's ALBERT",
    target="tensorflow",
    rules=with_slashes(
        (*bert_rules("bert"), ("encoder.embed.project", "bert.encoder.embedding_hidden_mapping_in")),
        {
            **{
                f"encoder.attentions.{{n}}.{part}": f"{_GROUP}/attention_1/self/{part}"
                for part in ("query", "key", "value")
            },
            "encoder.attentions.{n}.out": f"{_GROUP}/attention_1/output/dense",
            "encoder.attentions.{n}.norm": f"{_GROUP}/LayerNorm",
            "encoder.feeds.{n}.inner": f"{_GROUP}/ffn_1/intermediate/dense",
            "encoder.feeds.{n}.outer": f"{_GROUP}/ffn_1/intermediate/output/dense",
            "encoder.feeds.{n}.norm": f"{_GROUP}/LayerNorm_1",
            **TF_CLS,
        },
    ),
    spelling=TENSORFLOW,
    prefixes=("bert/",),
    defaults=TF_DEFAULTS,
    means=TF_MEANS,
)

_SHARED = "bert/encoder/layer_shared"
# What layers share → the scopes of a layer's attention, its inner map, and its outer map and norm.
_SCOPES = {
    "all": (f"{_SHARED}/attention", f"{_SHARED}/intermediate", f"{_SHARED}/output"),
    "attention": (f"{_SHARED}/attention", f"{_SHARED}/intermediate_{{n}}", f"{_SHARED}/output_{{n}}"),
    "ffn": (f"{_SHARED}/attention_{{n}}", f"{_SHARED}/intermediate", f"{_SHARED}/output"),
    "none": tuple(f"bert/encoder/layer_{{n}}/{part}" for part in ("attention", "intermediate", "output")),
}
_WORDS = "encoder.embed.project.weight"

ALBERT_ZH_TENSORFLOW = tuple(
    Form(
        name=f"TensorFlow 1, albert_zh, sharing {kind}",
        target="tensorflow",
        spelling=TENSORFLOW,
        rules=with_slashes(
            (*bert_rules("bert"), ("head.norm", "LayerNorm")),
            {
                _WORDS: "bert/embeddings/word_embeddings_2^T",
                **{
                    f"encoder.attentions.{{n}}.{part}": f"{attention}/self/{part}"
                    for part in ("query", "key", "value")
                },
                "encoder.attentions.{n}.out": f"{attention}/output/dense",
                "encoder.attentions.{n}.norm": f"{attention}/output/LayerNorm",
                "encoder.feeds.{n}.inner": f"{inner}/dense",
                "encoder.feeds.{n}.outer": f"{outer}/dense",
                "encoder.feeds.{n}.norm": f"{outer}/LayerNorm",
                **TF_CLS,
            },
        ),
        prefixes=("bert/",),
        defaults=TF_DEFAULTS,
        means=TF_MEANS,
    )
    for kind, (attention, inner, outer) in _SCOPES.items()
)
