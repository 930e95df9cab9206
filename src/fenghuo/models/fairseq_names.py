"""Tensor names of fairseq's checkpoints of encoders."""

from __future__ import annotations

from fenghuo.models.names import Form

_LAYER, _ATTENTION = "encoder.sentence_encoder.layers.{n}", "encoder.attentions.{n}"

FAIRSEQ = Form(
    name="fairseq",
    target=None,
    rules=(
        ("encoder.embed.tables.words", "encoder.sentence_encoder.embed_tokens"),
        ("encoder.embed.tables.positions", "encoder.sentence_encoder.embed_positions"),
        ("encoder.embed.norm", "encoder.sentence_encoder.layernorm_embedding"),
        ("encoder.embed.norm", "encoder.sentence_encoder.emb_layer_norm"),  # as older versions call it
        (f"{_ATTENTION}.query", f"{_LAYER}.self_attn.q_proj"),
        (f"{_ATTENTION}.key", f"{_LAYER}.self_attn.k_proj"),
        (f"{_ATTENTION}.value", f"{_LAYER}.self_attn.v_proj"),
        (f"{_ATTENTION}.out", f"{_LAYER}.self_attn.out_proj"),
        (f"{_ATTENTION}.norm", f"{_LAYER}.self_attn_layer_norm"),
        ("encoder.feeds.{n}.inner", f"{_LAYER}.fc1"),
        ("encoder.feeds.{n}.outer", f"{_LAYER}.fc2"),
        ("encoder.feeds.{n}.norm", f"{_LAYER}.final_layer_norm"),
        ("mlm.dense", "encoder.lm_head.dense"),
        ("mlm.norm", "encoder.lm_head.layer_norm"),
        ("mlm.bias", "encoder.lm_head.bias"),
    ),
    fused=tuple(
        (
            tuple(f"{_ATTENTION}.{part}.{kind}" for part in ("query", "key", "value")),
            f"{_LAYER}.self_attn.in_proj_{kind}",
        )
        for kind in ("weight", "bias")
    ),
    tied={"encoder.lm_head.weight": "encoder.embed.tables.words.weight"},
    dropped=(r".*\.version", r".*\._float_tensor"),
    prefixes=("encoder.", "decoder."),
    # fairseq adds no segment vector: one row of zeros is the same.
    zeros={"encoder.embed.tables.segments.weight": 1},
    config_keys={
        "encoder_attention_heads": "heads",
        "activation_fn": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
    },
    defaults={"norm_eps": 1e-5},
)
