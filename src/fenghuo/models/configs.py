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
_REQUIRED = ("vocab", "width", "layers", "heads", "inner_width")
_TASKS = {"classify": "ForSequenceClassification", "tag": "ForTokenClassification"}


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
            if family.class_name and str(architecture).startswith(family.class_name):
                return family
    if "max_relative_position" in values or values.get("use_relative_position"):
        return FAMILIES["nezha"]
    known = ", ".join(sorted(FAMILIES))
    raise ModelError(f"{folder / CONFIG}: names no family; add `model_type`\n  known: {known}")


def task_of(values: Mapping[str, Any]) -> str | None:
    """The task head that `architectures` names, or None."""
    named = [str(x) for x in values.get("architectures") or []]
    return next((task for task, ending in _TASKS.items() if any(x.endswith(ending) for x in named)), None)


def read_encoder_config(
    values: Mapping[str, Any], family: Family, folder: Path
) -> tuple[EncoderConfig, tuple[str, ...]]:
    """config.json's values as an `EncoderConfig`, and the keys that had no part in it.

    Raises:
        ModelError: a key is missing, of the wrong type, or asks for another computation.
    """
    path = folder / CONFIG
    given, ignored = read_fields(values, family, path)
    keys = {name: key for key, name in reversed(family.config_keys.items())}
    missing = [keys[name] for name in _REQUIRED if name in keys and name not in given]
    if missing:
        raise ModelError(f"{path}: lacks {', '.join(missing)}")
    try:
        config = EncoderConfig(**{**family.defaults, **given})
    except ValueError as problem:
        raise ModelError(f"{path}: {problem}") from problem
    check_derived(config, family, values, path)
    return config, ignored


def check_derived(config: EncoderConfig, family: Family, values: Mapping[str, Any], path: Path) -> None:
    """Raise a ModelError where config.json says otherwise what follows from its other values here."""
    for key, name in family.derived.items():
        if values.get(key, wanted := getattr(config, name)) != wanted:
            raise ModelError(
                f"{path}: {key} is {values[key]!r}; with its other values only {wanted} is supported"
            )


def read_fields(
    values: Mapping[str, Any], family: Family, path: Path, keys: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What config.json says of `EncoderConfig`'s fields, and the keys that say nothing of them.

    Args:
        path: the file, for messages.
        keys: its keys and their fields, where they are not the family's own.

    Raises:
        ModelError: a value of the wrong type, or one that asks for another computation.
    """
    for key, only in family.fixed.items():
        if values.get(key, only) != only:
            raise ModelError(f"{path}: {key} is {values[key]!r}; only {only!r} is supported")
    keys = {**family.also_read, **family.config_keys} if keys is None else keys
    types = {f.name: str(f.type) for f in fields(EncoderConfig)}
    given: dict[str, Any] = {}
    for key, name in keys.items():
        if key not in values:
            continue
        value = _translated(values[key], family.config_values.get(key), path, key)
        if types[name].startswith("tuple"):
            given[name] = _numbers(value, path, key)
            continue
        kinds: tuple[type, ...] = {"int": (int,), "float": (int, float), "bool": (bool,)}.get(
            types[name], (str,)
        )
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ModelError(f"{path}: {key} is {value!r}, not a value of that key")
        given[name] = value
    for key, name in family.switches.items():
        if name in given and not values.get(key, False):
            given[name] = 0
    if given.get("activation", "gelu") not in get_args(Activation):
        known = ", ".join(get_args(Activation))
        raise ModelError(f"{path}: hidden_act '{given['activation']}' is not supported\n  known: {known}")
    known_keys = {*keys, *family.switches, *family.fixed, *family.derived}
    return given, tuple(key for key in values if key not in known_keys)


def _numbers(value: Any, path: Path, key: str) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(x) is not int for x in value):
        raise ModelError(f"{path}: {key} is {value!r}, not a list of whole numbers")
    return tuple(value)


def _translated(value: Any, table: Mapping[Any, Any] | None, path: Path, key: str) -> Any:
    """The field's value for a key's; what the table does not have stands for itself, if it is a number."""
    if table is None:
        return value
    for theirs, ours in table.items():
        if type(theirs) is type(value) and theirs == value:
            return ours
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ModelError(f"{path}: {key} is {value!r}\n  known: {', '.join(map(repr, table))}")


def architecture(family: Family, heads: HeadsConfig) -> str:
    """The class of transformers that has these heads; of the same manner where it knows no such family."""
    ending = {
        (True, True): "ForPreTraining",
        (True, False): "ForMaskedLM",
        (False, True): "ForNextSentencePrediction",
        (False, False): "Model",
    }[heads.mlm, heads.pair]
    ending = ending if heads.task is None else _TASKS[heads.task]
    return (family.class_name or family.name) + family.class_endings.get(ending, ending)


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
    for key, name in family.config_keys.items():
        back = {ours: theirs for theirs, ours in family.config_values.get(key, {}).items()}
        out[key] = back.get(values[name], values[name])
    out |= {key: values[name] > 0 for key, name in family.switches.items()}
    out |= {key: getattr(config, name) for key, name in family.derived.items()}
    out |= {key: value for key, value in family.fixed.items() if value}
    out |= family.written
    if heads.task is not None:
        out[family.head_dropout_key] = config.dropout if heads.dropout is None else heads.dropout
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
