"""ERNIE of THU: BERT with a second stream of vectors for the entities that the text names."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, SHAPES, Family, bert_form

_LAYER = "bert.encoder.layer.{n}"

ERNIE_THU = Family(
    name="ernie_thu",
    citation="Zhang et al. 2019, arXiv 1905.07129; thunlp/ERNIE where paper and code differ",
    form=bert_form(
        "bert",
        # Layers of all three types have BERT's names; mix adds those of the feed-forward part, norm all of these.
        rules=(
            ("encoder.entity_attentions.{n}.query", f"{_LAYER}.attention.self_ent.query"),
            ("encoder.entity_attentions.{n}.key", f"{_LAYER}.attention.self_ent.key"),
            ("encoder.entity_attentions.{n}.value", f"{_LAYER}.attention.self_ent.value"),
            ("encoder.entity_attentions.{n}.out", f"{_LAYER}.attention.output_ent.dense"),
            ("encoder.entity_attentions.{n}.norm", f"{_LAYER}.attention.output_ent.LayerNorm"),
            ("encoder.feeds.{n}.entity_inner", f"{_LAYER}.intermediate.dense_ent"),
            ("encoder.feeds.{n}.entity_outer", f"{_LAYER}.output.dense_ent"),
            ("encoder.feeds.{n}.entity_norm", f"{_LAYER}.output.LayerNorm_ent"),
            ("entity.dense", "cls.predictions_ent.transform.dense"),
            ("entity.norm", "cls.predictions_ent.transform.LayerNorm"),
        ),
    ),
    # `layer_types` is its own key, in ernie_config.json; width and heads are numbers in its code, and keys only here.
    config_keys={
        **BERT_KEYS,
        "layer_types": "layer_types",
        "entity_size": "entity_width",
        "num_entity_attention_heads": "entity_heads",
    },
    defaults={"position": "learned", "entity_width": 100, "entity_heads": 4},
    head="classify",  # its code has classifiers of sequences only
    presets={
        # As the paper counts them: 6 of text, 6 that know of entities. A released file's own layer_types rule.
        "ernie_thu-base": {**SHAPES["base"], "layer_types": ("sim",) * 6 + ("mix",) + ("norm",) * 5},
    },
)
