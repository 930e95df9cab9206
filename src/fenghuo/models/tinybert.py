"""TinyBERT fine-tuned by its own code: BERT with a relu before the classifier. Without a classifier it is BERT."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, FIT_DENSES, Family, bert_form, presets

TINYBERT = Family(
    name="tinybert",
    citation="Jiao et al. 2020, arXiv 1909.10351; transformer/modeling.py of its code, which has the relu",
    form=bert_form("bert"),
    config_keys=BERT_KEYS,
    defaults={"position": "learned", "pooled_relu": True},
    fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    marks=(FIT_DENSES, r"classifier\.weight"),
    # Its code copies the model_type of the config it began with, which on the Hub says bert.
    also_named={
        "bert": "a classifier beside maps to a teacher's width is TinyBERT's own code, with a relu before it"
    },
    head="classify",
    presets=presets("tinybert", "4l-312", "6l-768"),
)
