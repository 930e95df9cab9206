"""BERT, and RoBERTa-wwm-ext and the like that are BERT in all but their training."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, SHAPES, Family, bert_form, presets
from fenghuo.models.paddle_names import ROBERTA_LM_HEAD, paddlenlp_form
from fenghuo.models.tensorflow_names import BERT_TENSORFLOW

BERT = Family(
    name="bert",
    citation="Devlin et al. 2019, arXiv 1810.04805",
    class_name="Bert",
    form=bert_form("bert"),
    released=(
        BERT_TENSORFLOW,
        paddlenlp_form("bert"),
        paddlenlp_form(
            "roberta", heads=ROBERTA_LM_HEAD, name="PaddleNLP's RoBERTa-wwm", target=None, segments=2
        ),
    ),
    config_keys=BERT_KEYS,
    defaults={"position": "learned"},
    fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    also_named={"roberta": "two segments and places from 0 on are BERT's: so PaddleNLP names RoBERTa-wwm"},
    presets={
        **presets("bert", "base", "large", "4l-312", "6l-768"),
        # Chinese-BERT-wwm (ymcui): BERT's files, trained with whole words masked; RBT3 and RBTL3 are 3 layers of them.
        **presets("bert-wwm", "base"),
        **presets("roberta-wwm", "base", "large"),
        "rbt3": {**SHAPES["base"], "layers": 3},
        "rbt4": {**SHAPES["base"], "layers": 4},
        "rbt6": SHAPES["6l-768"],
        "rbtl3": {**SHAPES["large"], "layers": 3},
        # UniLM (arXiv 1905.03197): BERT with six segments, and masks that make it one model of four kinds.
        **presets("unilm", "base", "large", segments=6),
    },
)
