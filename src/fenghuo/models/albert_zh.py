"""albert_zh's ALBERT, which is not Google's: words alone are widened, without a bias; layers may share a part."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, CLS_TIED, Family, bert_rules
from fenghuo.models.names import Form
from fenghuo.models.tensorflow_names import ALBERT_ZH_TENSORFLOW

_WORDS = ("encoder.embed.project.weight", "bert.embeddings.word_embeddings_2.weight")
# What has one group a layer is "none" there and "all" of its groups here.
_SHARING = {"none": "block", "all": "block", "attention": "attention", "ffn": "feed_forward"}

ALBERT_ZH = Family(
    name="albert_zh",
    citation="brightmart/albert_zh, modeling.py, after Lan et al. 2019, arXiv 1909.11942",
    form=Form(
        name="Hugging Face",
        target="huggingface",
        rules=(_WORDS, *bert_rules("bert"), ("head.norm", "LayerNorm")),
        tied=CLS_TIED,
        prefixes=("bert.",),
    ),
    released=ALBERT_ZH_TENSORFLOW,
    config_keys={
        **BERT_KEYS,
        "embedding_size": "embed_width",
        "num_hidden_groups": "layer_groups",
        "shared_type": "shared",
        "ln_type": "norm_first",
    },
    config_values={"shared_type": _SHARING, "ln_type": {"postln": False, "preln": True}},
    defaults={
        "position": "learned",
        "embed_width": 128,
        "widen": "words",
        "layer_groups": 1,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    presets={
        "albert_zh-tiny": {"layers": 4, "width": 312, "heads": 12, "inner_width": 1248},
        "albert_zh-base": {"layers": 12, "width": 768, "heads": 12, "inner_width": 3072},
        "albert_zh-large": {"layers": 24, "width": 1024, "heads": 16, "inner_width": 4096},
        "albert_zh-xlarge": {"layers": 24, "width": 2048, "heads": 32, "inner_width": 8192},
        "albert_zh-xxlarge": {
            "layers": 12,
            "width": 4096,
            "heads": 64,
            "inner_width": 16384,
            "norm_first": True,
        },
    },
)
