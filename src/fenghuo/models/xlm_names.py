"""Tensor names of XLM, which spells nothing as BERT does."""

from __future__ import annotations

from fenghuo.models.names import Form

# Facebook's .pth files have the same names without the prefix, and their settings the same keys.
XLM_FORM = Form(
    name="Hugging Face",
    target="huggingface",
    rules=(
        ("encoder.embed.tables.words", "transformer.embeddings"),
        ("encoder.embed.tables.positions", "transformer.position_embeddings"),
        ("encoder.embed.tables.languages", "transformer.lang_embeddings"),
        ("encoder.embed.norm", "transformer.layer_norm_emb"),
        ("encoder.attentions.{n}.query", "transformer.attentions.{n}.q_lin"),
        ("encoder.attentions.{n}.key", "transformer.attentions.{n}.k_lin"),
        ("encoder.attentions.{n}.value", "transformer.attentions.{n}.v_lin"),
        ("encoder.attentions.{n}.out", "transformer.attentions.{n}.out_lin"),
        ("encoder.attentions.{n}.norm", "transformer.layer_norm1.{n}"),
        ("encoder.feeds.{n}.inner", "transformer.ffns.{n}.lin1"),
        ("encoder.feeds.{n}.outer", "transformer.ffns.{n}.lin2"),
        ("encoder.feeds.{n}.norm", "transformer.layer_norm2.{n}"),
        ("mlm.bias", "pred_layer.proj.bias"),
        ("head.out", "classifier"),
    ),
    task_rules={"classify": (("head.out", "sequence_summary.summary"),)},
    tied={"pred_layer.proj.weight": "encoder.embed.tables.words.weight"},
    dropped=(r"transformer\.position_ids",),
    prefixes=("transformer.",),
)
