"""config.json ⇄ the values of a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from fenghuo.errors import ModelError
from fenghuo.models import FAMILIES
from fenghuo.models.build import find_family
from fenghuo.models.family import Family
from fenghuo.net.config import Activation, EncoderConfig, HeadsConfig

CONFIG = "config.json"
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def read_config(folder: str | Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        ModelError: it is missing, or not a JSON object.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ModelError(f"{path}: no such file; a model folder needs a {CONFIG}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ModelError(f"{path}: not readable as JSON ({problem})") from problem
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}, not an object")
    return values


def family_of(values: Mapping[str, Any], folder: Path) -> Family:
    """The family of config.json: by `model_type`, else by `architectures`, else by what only NEZHA has.

    Raises:
        ModelError: it names none, or one that is not known.
    """
    if isinstance(name := values.get("model_type"), str):
        try:
            return find_family(name)
        except ModelError as problem:
            raise ModelError(f"{folder / CONFIG}: {problem}") from problem
    for architecture in values.get("architectures") or []:
        for family in FAMILIES.values():
            if str(architecture).startswith(family.class_name):
                return family
    if "max_relative_position" in values or values.get("use_relative_position"):
        return FAMILIES["nezha"]
    known = ", ".join(sorted(FAMILIES))
    raise ModelError(f"{folder / CONFIG}: names no family; add `model_type`\n  known: {known}")


def read_encoder_config(
    values: Mapping[str, Any], family: Family, folder: Path
) -> tuple[EncoderConfig, tuple[str, ...]]:
    """config.json's values as an `EncoderConfig`, and the keys that had no part in it.

    Raises:
        ModelError: a key is missing, of the wrong type, or asks for another computation.
    """
    path = folder / CONFIG
    for key, only in family.fixed.items():
        if values.get(key, only) != only:
            raise ModelError(f"{path}: {key} is {values[key]!r}; only {only!r} is supported")
    if missing := [key for key in _REQUIRED if key not in values]:
        raise ModelError(f"{path}: lacks {', '.join(missing)}")
    types = {f.name: f.type for f in fields(EncoderConfig)}
    given: dict[str, Any] = dict(family.defaults)
    for key, name in family.config_keys.items():
        if key not in values:
            continue
        value = values[key]
        kind = {"int": (int,), "float": (int, float)}.get(str(types[name]), (str,))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ModelError(f"{path}: {key} is {value!r}, not a value of that key")
        given[name] = value
    if given.get("activation", "gelu") not in get_args(Activation):
        known = ", ".join(get_args(Activation))
        raise ModelError(f"{path}: hidden_act '{given['activation']}' is not supported\n  known: {known}")
    ignored = tuple(key for key in values if key not in family.config_keys and key not in family.fixed)
    try:
        return EncoderConfig(**given), ignored
    except ValueError as problem:
        raise ModelError(f"{path}: {problem}") from problem


def architecture(family: Family, heads: HeadsConfig) -> str:
    """The class of transformers that has these heads."""
    if heads.task is not None:
        return (
            family.class_name
            + {
                "classify": "ForSequenceClassification",
                "tag": "ForTokenClassification",
            }[heads.task]
        )
    ending = {
        (True, True): "ForPreTraining",
        (True, False): "ForMaskedLM",
        (False, True): "ForNextSentencePrediction",
        (False, False): "Model",
    }
    return family.class_name + ending[heads.mlm, heads.pair]


def config_json(
    config: EncoderConfig, heads: HeadsConfig, family: Family, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of config.json, in the order they are written.

    Args:
        extra: `labels`, the names of the outputs in order; every other key is written as it is.

    Raises:
        ModelError: the config has what the family's config.json cannot say, or labels do not fit the head.
    """
    values = asdict(config)
    shown = {name: values[name] for name in family.config_keys.values()}
    if lost := config.unlike(EncoderConfig(**{**family.defaults, **shown})):
        raise ModelError(f"a {family.name} folder cannot say {', '.join(lost)}")
    out: dict[str, Any] = {"model_type": family.name, "architectures": [architecture(family, heads)]}
    out |= {key: values[name] for key, name in family.config_keys.items()}
    out |= {key: value for key, value in family.fixed.items() if value}
    out["pad_token_id"] = 0
    if heads.task is not None:
        out["classifier_dropout"] = config.dropout if heads.dropout is None else heads.dropout
    rest = dict(extra)
    if labels := rest.pop("labels", None):
        if len(labels) != heads.outputs:
            raise ModelError(f"{len(labels)} labels for a head of {heads.outputs} outputs")
        rest["id2label"] = {str(i): label for i, label in enumerate(labels)}
        rest["label2id"] = {label: i for i, label in enumerate(labels)}
    elif heads.outputs and "id2label" not in rest:
        rest["id2label"] = {str(i): f"LABEL_{i}" for i in range(heads.outputs)}
        rest["label2id"] = {f"LABEL_{i}": i for i in range(heads.outputs)}
    return out | {"torch_dtype": "float32"} | rest
