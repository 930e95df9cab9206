"""Transformer-XL: left to right, distances, memory of earlier text, and words in clusters by frequency."""

from __future__ import annotations

from fenghuo.models.family import Family
from fenghuo.models.transfo_xl_names import TRANSFO_XL_NAMES

# As the paper's training scripts have it; their evaluation remembers more (wt103: 640 pieces, clip 400, same_length).
_BASE = {"cutoff_divisor": 1, "relative_clip": 0, "same_length": False, "relative_shared": True}
TRANSFO_XL = Family(
    name="transfo-xl",
    citation="Dai et al. 2019, arXiv 1901.02860",
    class_name="TransfoXL",
    class_endings={"ForMaskedLM": "LMHeadModel"},
    form=TRANSFO_XL_NAMES,
    config_keys={
        "vocab_size": "vocab",
        "d_model": "width",
        "n_layer": "layers",
        "n_head": "heads",
        "d_inner": "inner_width",
        "cutoffs": "cutoffs",
        "div_val": "cutoff_divisor",
        "pre_lnorm": "norm_first",
        "mem_len": "memory",
        "clamp_len": "relative_clip",
        "same_length": "same_length",
        "untie_r": "relative_shared",
        "dropout": "dropout",
        "dropatt": "attention_dropout",
        "init_std": "initializer_range",
        "layer_norm_epsilon": "norm_eps",
    },
    config_values={"clamp_len": {-1: 0}, "untie_r": {True: False, False: True}},
    derived={"d_head": "head_width", "d_embed": "embed_width"},
    # From norm_eps on, what transformers takes where config.json says nothing.
    defaults={
        "position": "xl",
        "adaptive": True,
        "attention_bias": False,
        "dropout_inside": True,
        "segments": 0,
        "activation": "relu",
        "norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "cutoffs": (20000, 40000, 200000),
        "cutoff_divisor": 4,
        "memory": 1600,
        "relative_clip": 1000,
        "same_length": True,
    },
    fixed={"attn_type": 0, "adaptive": True, "sample_softmax": -1, "ext_len": 0, "tie_weight": True}
    | {"proj_share_all_but_first": True, "tie_word_embeddings": True},
    written={"eos_token_id": 0},
    pooler=False,
    presets={
        "transfo-xl-wt103-large": {"layers": 18, "width": 1024, "heads": 16, "inner_width": 4096},
        "transfo-xl-wt103-base": {"layers": 16, "width": 410, "heads": 10, "inner_width": 2100, "memory": 150}
        | _BASE,
        "transfo-xl-enwik8-base": {"layers": 12, "width": 512, "heads": 8, "memory": 512, "cutoffs": ()}
        | _BASE,
    },
)
