"""What a family of models is: values and names. No family has code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fenghuo.models.names import Form, Rules
from fenghuo.net.config import TaskHead


@dataclass(frozen=True, kw_only=True)
class Family:
    """A released family as a card."""

    name: str
    """`model_type` in config.json."""
    citation: str
    class_name: str = ""
    """How transformers' class names begin; empty where it knows none."""
    class_endings: Mapping[str, str] = field(default_factory=dict)
    """Class name endings that differ from the usual ones, such as ForMaskedLM."""
    form: Form
    """Tensor names in a Hugging Face folder."""
    released: tuple[Form, ...] = ()
    """Other forms in which its files are found."""
    config_keys: Mapping[str, str]
    """config.json key → field of `EncoderConfig`."""
    also_read: Mapping[str, str] = field(default_factory=dict)
    """More of them, found in other programs' files and never written."""
    config_values: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    """config.json key → {its value: the field's value}, where they are not the same."""
    switches: Mapping[str, str] = field(default_factory=dict)
    """config.json key → field that is 0 where the key is false."""
    derived: Mapping[str, str] = field(default_factory=dict)
    """config.json key → what `EncoderConfig` makes of other values; another number is unsupported."""
    switched_on: bool = False
    """What its code takes a switch for that the config lacks."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values that all of the family share, by field of `EncoderConfig`."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """config.json keys of which one value is supported: another one would be another computation."""
    written: Mapping[str, Any] = field(default_factory=lambda: {"pad_token_id": 0})
    """config.json keys that say nothing of shapes, as they are written."""
    marks: tuple[str, ...] = ()
    """Patterns of stored names: where each of them is found, it is this family, and no other with the same names."""
    also_named: Mapping[str, str] = field(default_factory=dict)
    """Families that a config may name for a file of this one that fits this one better → why it is taken as this."""
    head: TaskHead | None = None
    """What a classifier is where config.json says nothing of it."""
    head_dropout_key: str = "classifier_dropout"
    pooler: bool = True
    """Whether its files have a pooler; without one, a sequence's vector is that of its first piece."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def forms(self) -> tuple[Form, ...]:
        """Hugging Face's first."""
        return (self.form, *self.released)

    def theirs(self, ours: str, task: str | None = None) -> str | None:
        """The tensor of a Hugging Face folder that holds ours; None where no rule fits."""
        found = self.form.whole(ours) or self.form.theirs(ours, task)
        return None if found is None else found[0]


def layer_rules(layer: str) -> Rules:
    """Tensor names of one layer built like BERT's, under the name of the layer."""
    return (
        ("encoder.attentions.{n}.query", f"{layer}.attention.self.query"),
        ("encoder.attentions.{n}.key", f"{layer}.attention.self.key"),
        ("encoder.attentions.{n}.value", f"{layer}.attention.self.value"),
        ("encoder.attentions.{n}.out", f"{layer}.attention.output.dense"),
        ("encoder.attentions.{n}.norm", f"{layer}.attention.output.LayerNorm"),
        ("encoder.feeds.{n}.inner", f"{layer}.intermediate.dense"),
        ("encoder.feeds.{n}.outer", f"{layer}.output.dense"),
        ("encoder.feeds.{n}.norm", f"{layer}.output.LayerNorm"),
    )


def embedding_rules(prefix: str) -> Rules:
    """Tensor names of the embedding of everything built like BERT, under a prefix such as `bert`."""
    return (
        ("encoder.embed.tables.words", f"{prefix}.embeddings.word_embeddings"),
        ("encoder.embed.tables.positions", f"{prefix}.embeddings.position_embeddings"),
        ("encoder.embed.tables.segments", f"{prefix}.embeddings.token_type_embeddings"),
        ("encoder.embed.norm", f"{prefix}.embeddings.LayerNorm"),
    )


SPAN_BOUNDARY_RULES: Rules = (
    ("span_boundary.places.weight", "cls.pair_target_predictions.position_embeddings.weight"),
    ("span_boundary.inner", "cls.pair_target_predictions.mlp_layer_norm.linear1"),
    ("span_boundary.inner_norm", "cls.pair_target_predictions.mlp_layer_norm.layer_norm1"),
    ("span_boundary.outer", "cls.pair_target_predictions.mlp_layer_norm.linear2"),
    ("span_boundary.outer_norm", "cls.pair_target_predictions.mlp_layer_norm.layer_norm2"),
    ("span_boundary.bias", "cls.pair_target_predictions.bias"),
)
"""As SpanBERT's pretraining code names them; transformers has no such head, and passes over them."""

CLS_RULES: Rules = (
    ("mlm.dense", "cls.predictions.transform.dense"),
    ("mlm.norm", "cls.predictions.transform.LayerNorm"),
    ("mlm.bias", "cls.predictions.bias"),
    ("pair.out", "cls.seq_relationship"),
    ("head.out", "classifier"),
    *SPAN_BOUNDARY_RULES,
)


def bert_rules(prefix: str) -> Rules:
    """Tensor names of everything built like BERT, under a prefix such as `bert`."""
    layers = layer_rules(f"{prefix}.encoder.layer.{{n}}")
    return (*embedding_rules(prefix), *layers, ("pooler.dense", f"{prefix}.pooler.dense"), *CLS_RULES)


FIT_DENSES = r"fit_dense(s\.\d+)?\.(weight|bias)"
"""TinyBERT's maps to its teacher's width: needed while distilling, and drawn afresh for another teacher."""

CLS_TIED = {
    "cls.predictions.decoder.weight": "encoder.embed.tables.words.weight",
    "cls.predictions.decoder.bias": "mlm.bias",
    "cls.pair_target_predictions.decoder.weight": "encoder.embed.tables.words.weight",
}


def bert_form(
    prefix: str, *, also: tuple[str, ...] = (), rules: Rules = (), dropped: tuple[str, ...] = ()
) -> Form:
    """Hugging Face's names of a family built like BERT.

    Args:
        prefix: what stands before the encoder's names, such as `bert`.
        also: other prefixes found in released files.
        rules: what it has beside BERT's.
        dropped: as in `Form`, beside the buffers that old files store.
    """
    return Form(
        name="Hugging Face",
        target="huggingface",
        rules=(*bert_rules(prefix), *rules),
        tied=CLS_TIED,
        dropped=(r".*\.embeddings\.(position_ids|token_type_ids)", FIT_DENSES, *dropped),
        prefixes=tuple(f"{one}." for one in (prefix, *also)),
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

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "base": {"layers": 12, "width": 768, "heads": 12, "inner_width": 3072},
    "large": {"layers": 24, "width": 1024, "heads": 16, "inner_width": 4096},
    "4l-312": {"layers": 4, "width": 312, "heads": 12, "inner_width": 1200},  # TinyBERT, arXiv 1909.10351
    "6l-768": {"layers": 6, "width": 768, "heads": 12, "inner_width": 3072},
}


def presets(family: str, *names: str, **values: Any) -> dict[str, Mapping[str, Any]]:
    """Usual shapes with a family's values, as `family-shape`."""
    return {f"{family}-{name}": {**SHAPES[name], **values} for name in names}
