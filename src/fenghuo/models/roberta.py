"""RoBERTa: BERT with places from 2 on, one segment, and other heads. Chinese "RoBERTa-wwm" is BERT."""

from __future__ import annotations

from fenghuo.models.fairseq_names import FAIRSEQ
from fenghuo.models.family import (
    BERT_KEYS,
    SPAN_BOUNDARY_RULES,
    Family,
    embedding_rules,
    layer_rules,
    presets,
)
from fenghuo.models.names import Form
from fenghuo.models.paddle_names import ROBERTA_LM_HEAD, paddlenlp_form

ROBERTA = Family(
    name="roberta",
    citation="Liu et al. 2019, arXiv 1907.11692",
    class_name="Roberta",
    form=Form(
        name="Hugging Face",
        target="huggingface",
        rules=(
            *embedding_rules("roberta"),
            *layer_rules("roberta.encoder.layer.{n}"),
            ("pooler.dense", "roberta.pooler.dense"),
            ("mlm.dense", "lm_head.dense"),
            ("mlm.norm", "lm_head.layer_norm"),
            ("mlm.bias", "lm_head.bias"),
            ("head.out", "classifier"),
            *SPAN_BOUNDARY_RULES,
        ),
        # Its classifier brings the pooler's layer with it, under a name of its own.
        task_rules={"classify": (("pooler.dense", "classifier.dense"), ("head.out", "classifier.out_proj"))},
        tied={
            "lm_head.decoder.weight": "encoder.embed.tables.words.weight",
            "lm_head.decoder.bias": "mlm.bias",
        },
        dropped=(r".*\.embeddings\.(position_ids|token_type_ids)",),
        prefixes=("roberta.",),
    ),
    released=(FAIRSEQ, paddlenlp_form("roberta", heads=ROBERTA_LM_HEAD, segments=1)),
    config_keys=BERT_KEYS,
    defaults={"position": "learned", "first_position": 2, "max_length": 514, "segments": 1, "norm_eps": 1e-5},
    fixed={
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "pad_token_id": 1,
    },
    written={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
    presets=presets("roberta", "base", "large"),
)
