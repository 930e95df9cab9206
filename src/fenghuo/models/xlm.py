"""XLM: a vector a language, `</s>` at both ends, and neither segments nor a pooler."""

from __future__ import annotations

from fenghuo.models.family import Family
from fenghuo.models.xlm_names import XLM_FORM

XLM = Family(
    name="xlm",
    citation="Lample and Conneau 2019, arXiv 1901.07291",
    class_name="XLM",
    class_endings={"ForMaskedLM": "WithLMHeadModel"},
    form=XLM_FORM,
    config_keys={
        "vocab_size": "vocab",
        "emb_dim": "width",
        "n_layers": "layers",
        "n_heads": "heads",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "gelu_activation": "activation",
        "n_langs": "languages",
        "max_position_embeddings": "max_length",
        "init_std": "initializer_range",
        "layer_norm_eps": "norm_eps",
    },
    also_read={"n_words": "vocab"},
    config_values={"gelu_activation": {True: "gelu", False: "relu"}, "n_langs": {1: 0}},
    switches={"use_lang_emb": "languages"},
    switched_on=True,
    defaults={"position": "learned", "segments": 0, "mlm_transform": False},
    fixed={
        "is_encoder": True,
        "sinusoidal_embeddings": False,
        "causal": False,
        "asm": False,
        "summary_type": "first",
    },
    written={"pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1, "mask_token_id": 5},
    head_dropout_key="summary_first_dropout",
    pooler=False,
    presets={
        "xlm-mlm-en-2048": {"layers": 12, "width": 2048, "heads": 16},
        "xlm-ende-1024": {
            "layers": 6,
            "width": 1024,
            "heads": 8,
            "languages": 2,
        },  # and enfr, enro; MLM and CLM
        "xlm-xnli15-1024": {"layers": 12, "width": 1024, "heads": 8, "languages": 15},  # MLM, and MLM + TLM
        "xlm-mlm-17-1280": {"layers": 16, "width": 1280, "heads": 16},
        "xlm-mlm-100-1280": {"layers": 16, "width": 1280, "heads": 16},
    },
)
