"""ERNIE of Baidu, 1.0 to 3.0 and Tiny: BERT with a vector for the task, and Paddle's epsilon."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, SHAPES, Family, bert_form
from fenghuo.models.paddle_names import ERNIE_PERSISTABLES, paddlenlp_form

_TASKS = "ernie.embeddings.task_type_embeddings"
_V3 = {"max_length": 2048, "segments": 4, "tasks": 16}

ERNIE = Family(
    name="ernie",
    citation="Sun et al. 2019, arXiv 1904.09223 and 1907.12412; Wang et al. 2021, arXiv 2107.02137",
    class_name="Ernie",
    form=bert_form("ernie", also=("bert",), rules=(("encoder.embed.tables.tasks", _TASKS),)),
    released=(paddlenlp_form("ernie", rules=(("encoder.embed.tables.tasks", _TASKS),)), ERNIE_PERSISTABLES),
    config_keys={**BERT_KEYS, "task_type_vocab_size": "tasks"},
    also_read={"sent_type_vocab_size": "segments"},
    switches={"use_task_id": "tasks"},
    defaults={"position": "learned", "norm_eps": 1e-5},
    fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    presets={
        "ernie-1.0-base": {**SHAPES["base"], "max_length": 513, "activation": "relu"},
        "ernie-2.0-base": {**SHAPES["base"], "segments": 4, "tasks": 16},
        "ernie-2.0-large": {**SHAPES["large"], "segments": 4, "tasks": 16},
        "ernie-2.0-base-zh": {**SHAPES["base"], "max_length": 513, "segments": 4, "activation": "relu"},
        "ernie-2.0-large-zh": {**SHAPES["large"], "segments": 4, "activation": "relu"},
        "ernie-tiny": {**SHAPES["large"], "layers": 3, "max_length": 600, "activation": "relu"},
        "ernie-3.0-xbase": {**SHAPES["large"], "layers": 20, **_V3},
        "ernie-3.0-base": {**SHAPES["base"], **_V3, "tasks": 3},
        "ernie-3.0-medium": {**SHAPES["6l-768"], **_V3},
        "ernie-3.0-mini": {"layers": 6, "width": 384, "heads": 12, "inner_width": 1536, **_V3},
        "ernie-3.0-micro": {"layers": 4, "width": 384, "heads": 12, "inner_width": 1536, **_V3},
        "ernie-3.0-nano": {"layers": 4, "width": 312, "heads": 12, "inner_width": 1248, **_V3},
    },
)
