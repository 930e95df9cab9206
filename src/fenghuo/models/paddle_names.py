"""Tensor names of Paddle's files: PaddleNLP's, and the variables of Baidu's own ERNIE code."""

from __future__ import annotations

from fenghuo.models.family import SPAN_BOUNDARY_RULES, embedding_rules
from fenghuo.models.names import Form, Rules, Spelling, Target

PADDLE = Spelling(
    weight=".weight", bias=".bias", gain=".weight", shift=".bias", table=".weight", transposed=True
)
PERSISTABLES = Spelling(weight=".w_0", bias=".b_0", gain="_scale", shift="_bias", table="", transposed=True)


_CLS: Rules = (
    ("mlm.dense", "cls.predictions.transform"),
    ("mlm.norm", "cls.predictions.layer_norm"),
    ("mlm.bias", "cls.predictions.decoder_bias"),
    ("pair.out", "cls.seq_relationship"),
)
ROBERTA_LM_HEAD: Rules = (
    ("mlm.dense", "lm_head.dense"),
    ("mlm.norm", "lm_head.layer_norm"),
    ("mlm.bias", "lm_head.decoder.bias"),
)


def paddlenlp_form(
    prefix: str,
    *,
    heads: Rules = _CLS,
    rules: Rules = (),
    norm_eps: float = 1e-12,
    name: str = "PaddleNLP",
    target: Target | None = "paddle",
    segments: int | None = None,
) -> Form:
    """PaddleNLP's names of a family built like BERT: `model_state.pdparams`.

    Args:
        heads: of pretraining.
        rules: what it has beside BERT's.
        segments: as in `Form`: PaddleNLP has one class for RoBERTa, of one segment, and for RoBERTa-wwm, which is BERT
            and counts places from 0.
        norm_eps: what `init_weights` of its BERT, ERNIE and RoBERTa gives every norm, those of the layers too.
    """
    layer = f"{prefix}.encoder.layers.{{n}}"
    return Form(
        name=name,
        target=target,
        spelling=PADDLE,
        rules=(
            *((ours, theirs.replace("LayerNorm", "layer_norm")) for ours, theirs in embedding_rules(prefix)),
            ("encoder.attentions.{n}.query", f"{layer}.self_attn.q_proj"),
            ("encoder.attentions.{n}.key", f"{layer}.self_attn.k_proj"),
            ("encoder.attentions.{n}.value", f"{layer}.self_attn.v_proj"),
            ("encoder.attentions.{n}.out", f"{layer}.self_attn.out_proj"),
            ("encoder.attentions.{n}.norm", f"{layer}.norm1"),
            ("encoder.feeds.{n}.inner", f"{layer}.linear1"),
            ("encoder.feeds.{n}.outer", f"{layer}.linear2"),
            ("encoder.feeds.{n}.norm", f"{layer}.norm2"),
            ("pooler.dense", f"{prefix}.pooler.dense"),
            *heads,
            ("head.out", "classifier"),
            *SPAN_BOUNDARY_RULES,
            *rules,
        ),
        tied={
            "cls.predictions.decoder_weight": "encoder.embed.tables.words.weight",
            "cls.predictions.decoder.weight": "encoder.embed.tables.words.weight",
            "cls.predictions.decoder.bias": "mlm.bias",
            "lm_head.decoder.weight": "encoder.embed.tables.words.weight",
        },
        copies=("cls.predictions.decoder_weight" if heads is _CLS else "lm_head.decoder.weight",),
        prefixes=(f"{prefix}.",),
        defaults={"norm_eps": norm_eps},
        segments=segments,
    )


_LAYER = "encoder_layer_{n}"

ERNIE_PERSISTABLES = Form(
    name="Paddle persistables",
    target=None,
    spelling=PERSISTABLES,
    rules=(
        ("encoder.embed.tables.words", "word_embedding"),
        ("encoder.embed.tables.positions", "pos_embedding"),
        ("encoder.embed.tables.segments", "sent_embedding"),
        ("encoder.embed.tables.tasks", "task_embedding"),
        ("encoder.embed.norm", "pre_encoder_layer_norm"),
        ("encoder.attentions.{n}.query", f"{_LAYER}_multi_head_att_query_fc"),
        ("encoder.attentions.{n}.key", f"{_LAYER}_multi_head_att_key_fc"),
        ("encoder.attentions.{n}.value", f"{_LAYER}_multi_head_att_value_fc"),
        ("encoder.attentions.{n}.out", f"{_LAYER}_multi_head_att_output_fc"),
        ("encoder.attentions.{n}.norm", f"{_LAYER}_post_att_layer_norm"),
        ("encoder.feeds.{n}.inner", f"{_LAYER}_ffn_fc_0"),
        ("encoder.feeds.{n}.outer", f"{_LAYER}_ffn_fc_1"),
        ("encoder.feeds.{n}.norm", f"{_LAYER}_post_ffn_layer_norm"),
        ("pooler.dense", "pooled_fc"),
        ("mlm.dense", "mask_lm_trans_fc"),
        ("mlm.norm", "mask_lm_trans_layer_norm"),
        ("mlm.bias", "mask_lm_out_fc.b_0"),
        ("pair.out", "next_sent_fc"),
    ),
    defaults={"norm_eps": 1e-5},
)
