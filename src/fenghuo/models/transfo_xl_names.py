"""Tensor names of Transformer-XL in Hugging Face folders."""

from __future__ import annotations

from fenghuo.models.names import Form

_LAYER = "transformer.layers.{n}"
_WORDS = "encoder.embed.tables.words"
_QKV = tuple(f"encoder.attentions.{{n}}.{part}.weight" for part in ("query", "key", "value"))
TRANSFO_XL_NAMES = Form(
    name="Hugging Face",
    target="huggingface",
    rules=(
        (f"{_WORDS}.tables.{{n}}.weight", "transformer.word_emb.emb_layers.{n}.weight"),
        (f"{_WORDS}.maps.{{n}}.weight", "transformer.word_emb.emb_projs.{n}"),
        ("encoder.relative.queries.shared.content.weight", "transformer.r_w_bias"),
        ("encoder.relative.queries.shared.distance.weight", "transformer.r_r_bias"),
        ("encoder.relative.queries.{n}.content.weight", f"{_LAYER}.dec_attn.r_w_bias"),
        ("encoder.relative.queries.{n}.distance.weight", f"{_LAYER}.dec_attn.r_r_bias"),
        ("encoder.relative.maps.{n}.weight", f"{_LAYER}.dec_attn.r_net.weight"),
        ("encoder.attentions.{n}.out.weight", f"{_LAYER}.dec_attn.o_net.weight"),
        ("encoder.attentions.{n}.norm", f"{_LAYER}.dec_attn.layer_norm"),
        ("encoder.feeds.{n}.inner", f"{_LAYER}.pos_ff.CoreNet.0"),
        ("encoder.feeds.{n}.outer", f"{_LAYER}.pos_ff.CoreNet.3"),
        ("encoder.feeds.{n}.norm", f"{_LAYER}.pos_ff.layer_norm"),
        ("mlm.map.weight", "crit.out_projs.0"),
        ("mlm.biases.{n}.bias", "crit.out_layers.{n}.bias"),
        ("mlm.clusters.weight", "crit.cluster_weight"),
        ("mlm.clusters.bias", "crit.cluster_bias"),
    ),
    fused=((_QKV, f"{_LAYER}.dec_attn.qkv_net.weight"),),
    tied={
        "crit.out_layers.{n}.weight": f"{_WORDS}.tables.{{n}}.weight",
        **{f"crit.out_projs.{n}": f"{_WORDS}.maps.{n}.weight" for n in range(1, 10)},
    },
    # transformers does not share them again after loading: each layer needs its copy.
    repeated={
        "transformer.r_w_bias": f"{_LAYER}.dec_attn.r_w_bias",
        "transformer.r_r_bias": f"{_LAYER}.dec_attn.r_r_bias",
    },
    dropped=(r"transformer\.pos_emb\.inv_freq",),
    prefixes=("transformer.",),
)
