"""What a family of models is: values and names. No family has code of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Rules = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A released family as a card.

    A rule (ours, theirs) renames a module and all it holds; `{n}` is a layer's number. The same rules read
    and write, so import and export cannot drift.
    """

    name: str
    """`model_type` in config.json."""
    citation: str
    class_name: str
    """How transformers' class names begin."""
    prefix: str
    """What stands before the encoder's tensor names."""
    prefixes_read: tuple[str, ...] = ()
    """Other prefixes found in released files."""
    rules: Rules
    config_keys: Mapping[str, str]
    """config.json key → field of `EncoderConfig`."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values that all of the family share, by field of `EncoderConfig`."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """config.json keys of which one value is supported: another one would be another computation."""
    dropped: tuple[str, ...] = ()
    """Patterns of tensors in released files that hold no weight."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def theirs(self, ours: str) -> str | None:
        """Our tensor name as Hugging Face has it; None where no rule fits."""
        return _rename(ours, [(a, b) for a, b in self.rules])

    def ours(self, theirs: str) -> str | None:
        """The inverse of `theirs`."""
        return _rename(theirs, [(b, a) for a, b in self.rules])


def _rename(name: str, rules: list[tuple[str, str]]) -> str | None:
    for source, target in rules:
        pattern = re.escape(source).replace(r"\{n\}", r"(?P<n>\d+)")
        if match := re.fullmatch(rf"{pattern}(?P<rest>\.(?:weight|bias))?", name):
            parts = match.groupdict()
            return target.replace("{n}", parts.get("n") or "") + (parts["rest"] or "")
    return None


def bert_rules(prefix: str) -> Rules:
    """Tensor names of everything built like BERT, under a prefix such as `bert`."""
    layer = f"{prefix}.encoder.layer.{{n}}"
    return (
        ("encoder.embed.tables.words", f"{prefix}.embeddings.word_embeddings"),
        ("encoder.embed.tables.positions", f"{prefix}.embeddings.position_embeddings"),
        ("encoder.embed.tables.segments", f"{prefix}.embeddings.token_type_embeddings"),
        ("encoder.embed.norm", f"{prefix}.embeddings.LayerNorm"),
        ("encoder.blocks.{n}.attention.query", f"{layer}.attention.self.query"),
        ("encoder.blocks.{n}.attention.key", f"{layer}.attention.self.key"),
        ("encoder.blocks.{n}.attention.value", f"{layer}.attention.self.value"),
        ("encoder.blocks.{n}.attention.out", f"{layer}.attention.output.dense"),
        ("encoder.blocks.{n}.attention_norm", f"{layer}.attention.output.LayerNorm"),
        ("encoder.blocks.{n}.inner", f"{layer}.intermediate.dense"),
        ("encoder.blocks.{n}.outer", f"{layer}.output.dense"),
        ("encoder.blocks.{n}.outer_norm", f"{layer}.output.LayerNorm"),
        ("pooler.dense", f"{prefix}.pooler.dense"),
        ("mlm.dense", "cls.predictions.transform.dense"),
        ("mlm.norm", "cls.predictions.transform.LayerNorm"),
        ("mlm.bias", "cls.predictions.bias"),
        ("pair.out", "cls.seq_relationship"),
        ("head.out", "classifier"),
    )


BERT_KEYS: Mapping[str, str] = {
    "vocab_size": "vocab",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "inner_width",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_length",
    "type_vocab_size": "segments",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "norm_eps",
}

_SHAPES = {
    "base": {"layers": 12, "width": 768, "heads": 12, "inner_width": 3072},
    "large": {"layers": 24, "width": 1024, "heads": 16, "inner_width": 4096},
    "4l-312": {"layers": 4, "width": 312, "heads": 12, "inner_width": 1200},  # TinyBERT, arXiv 1909.10351
}


def bert_presets(family: str) -> Mapping[str, Mapping[str, Any]]:
    """The usual shapes, as `family-shape`."""
    return {f"{family}-{name}": shape for name, shape in _SHAPES.items()}
