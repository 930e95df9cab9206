"""NEZHA: BERT with fixed relative positions inside attention, and none in the embedding."""

from __future__ import annotations

from fenghuo.models.family import BERT_KEYS, Family, bert_presets, bert_rules

NEZHA = Family(
    name="nezha",
    citation="Wei et al. 2019, arXiv 1909.00204; NEZHA-TensorFlow where paper and code differ",
    class_name="Nezha",
    prefix="nezha",
    prefixes_read=("bert",),  # the PyTorch files Huawei released
    rules=bert_rules("nezha"),
    config_keys={**BERT_KEYS, "max_relative_position": "relative_clip"},
    defaults={"position": "nezha", "relative_clip": 64},
    fixed={"use_relative_position": True, "is_decoder": False, "add_cross_attention": False},
    # Third-party files carry the table of distances, 512 x 512 x 64 numbers a layer; here it is a formula.
    dropped=(
        r".*\.relative_positions_encoding(\.positions_encoding)?",
        r".*\.embeddings\.(position_ids|token_type_ids)",
    ),
    presets=bert_presets("nezha"),
)
