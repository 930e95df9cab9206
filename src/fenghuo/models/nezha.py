"""NEZHA: BERT with fixed relative positions inside attention, and none in the embedding."""

from __future__ import annotations

from dataclasses import replace

from fenghuo.models.family import BERT_KEYS, Family, bert_form, presets
from fenghuo.models.tensorflow_names import BERT_TENSORFLOW

NEZHA = Family(
    name="nezha",
    citation="Wei et al. 2019, arXiv 1909.00204; NEZHA-TensorFlow where paper and code differ",
    class_name="Nezha",
    form=bert_form(
        "nezha",
        also=("bert",),  # the PyTorch files Huawei released
        # Third-party files carry the table of distances, 512 x 512 x 64 numbers a layer; here it is a formula.
        dropped=(r".*\.relative_positions_encoding(\.positions_encoding)?",),
    ),
    # NEZHA-TensorFlow has the clip in its code, not in its configuration.
    released=(replace(BERT_TENSORFLOW, defaults={**BERT_TENSORFLOW.defaults, "relative_clip": 64}),),
    config_keys={**BERT_KEYS, "max_relative_position": "relative_clip"},
    defaults={"position": "nezha", "relative_clip": 64},
    fixed={"use_relative_position": True, "is_decoder": False, "add_cross_attention": False},
    presets={
        **presets("nezha", "base", "large", "4l-312"),
        **presets("nezha-wwm", "base", "large"),
        **presets("nezha-en", "base", relative_clip=127),
    },
)
