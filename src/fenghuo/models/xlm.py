"""XLM: a vector a language, `</s>` at both ends, and neither segments nor a pooler."""

from __future__ import annotations

from fenghuo.models.family import Family
from fenghuo.models.names import Form

XLM = Family(
    name="xlm",
    citation="Lample and Conneau 2019, arXiv 1901.07291",
    class_name="XLM",
    class_endings={"ForMaskedLM": "WithLMHeadModel"},
    # Facebook's .pth files have the same names without the prefix, and their settings the same keys.
    form=Form(
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
    ),
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
        "xlm-xnli15-1024": {"layers": 12, "width": 1024, "heads": 8, "languages": 15},  # MLM, and MLM + TLM
        "xlm-mlm-17-1280": {"layers": 16, "width": 1280, "heads": 16},
        "xlm-mlm-100-1280": {"layers": 16, "width": 1280, "heads": 16},
    },
)
