"""BERT, and RoBERTa-wwm-ext and the like that are BERT in all but their training."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, Family, bert_presets, bert_rules

BERT = Family(
    name="bert",
    citation="Devlin et al. 2019, arXiv 1810.04805",
    class_name="Bert",
    prefix="bert",
    rules=bert_rules("bert"),
    config_keys=BERT_KEYS,
    defaults={"position": "learned"},
    fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    dropped=(r".*\.embeddings\.(position_ids|token_type_ids)",),
    presets=bert_presets("bert"),
)
