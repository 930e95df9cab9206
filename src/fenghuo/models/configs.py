"""config.json ⇄ the values of a network."""

from __future__ import annotations

import json
import math
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
_OTHER_CONFIGS = ("tokenizer_config.json", "generation_config.json", "preprocessor_config.json")
_TASKS = {"classify": "ForSequenceClassification", "tag": "ForTokenClassification"}


def read_config(folder: str | Path) -> dict[str, Any]:
    """The folder's configuration.

    Raises:
        ModelError: it is missing, or not a JSON object.
    """
    path = find_config(Path(folder))
    if path is None:
        raise ModelError(f"{Path(folder) / CONFIG}: no such file; a model folder needs a {CONFIG}")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file.

    Raises:
        ModelError: not a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ModelError(f"{path}: not readable as JSON ({problem})") from problem
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}, not an object")
    return _unfolded(values)


def _unfolded(values: dict[str, Any]) -> dict[str, Any]:
    """PaddleNLP before 2.5 wrote how a model is made: {"init_class": its class, "init_args": [that of its encoder]}."""
    if not isinstance(name := values.get("init_class"), str):
        return values
    out: dict[str, Any] = {}
    for part in (*(values.get("init_args") or ()), values):
        out |= part if isinstance(part, dict) else {}
    return {"architectures": [name]} | {k: v for k, v in out.items() if k not in ("init_class", "init_args")}


def find_config(source: Path) -> Path | None:
    """The file that says what a model is: config.json of a folder, or one of another name (bert_config.json,
    albert_config_tiny.json, ernie_config.json); of a file of weights, that of its folder. None where there is none.

    Raises:
        ModelError: several, and nothing tells which.
    """
    folder = source if source.is_dir() else source.parent
    if (folder / CONFIG).is_file():
        return folder / CONFIG
    found = sorted(path for path in folder.glob("*config*.json") if path.name not in _OTHER_CONFIGS)
    if len(found) > 1:
        raise ModelError(
            f"{folder}: several files may be its configuration; keep one: {', '.join(x.name for x in found)}"
        )
    return found[0] if found else None


def family_named(values: Mapping[str, Any], folder: Path) -> Family | None:
    """The family that config.json names: by `model_type`, else by `architectures`; None where it names none.

    Raises:
        ModelError: its `model_type` is not known.
    """
    if (name := values.get("model_type")) is not None:
        try:
            return find_family(str(name))
        except ModelError as problem:
            raise ModelError(f"{folder / CONFIG}: {problem}") from problem
    for architecture in _architectures(values):
        for family in FAMILIES.values():
            if family.class_name and architecture.startswith(family.class_name):
                return family
    return None


def _architectures(values: Mapping[str, Any]) -> list[str]:
    named = values.get("architectures")
    return [str(x) for x in named] if isinstance(named, list) else []


def task_of(values: Mapping[str, Any]) -> str | None:
    """The task head that `architectures` names, or None."""
    named = _architectures(values)
    return next((task for task, ending in _TASKS.items() if any(x.endswith(ending) for x in named)), None)


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
        kind = types[name].removeprefix("tuple[").removesuffix(", ...]")
        kinds: tuple[type, ...] = {"int": (int,), "float": (int, float), "bool": (bool,)}.get(kind, (str,))
        parts = value if isinstance(value, list) else [value]
        if isinstance(value, list) != types[name].startswith("tuple[") or any(
            not isinstance(x, kinds)
            or (isinstance(x, bool) and bool not in kinds)
            or (isinstance(x, float) and not math.isfinite(x))
            for x in parts
        ):
            raise ModelError(f"{path}: {key} is {value!r}, not a value of that key")
        given[name] = tuple(value) if isinstance(value, list) else value
    for key, name in family.switches.items():
        if name in given and not values.get(key, family.switched_on):
            given[name] = 0
    if given.get("activation", "gelu") not in get_args(Activation):
        known = ", ".join(get_args(Activation))
        key = next(key for key, name in keys.items() if name == "activation" and key in values)
        raise ModelError(f"{path}: {key} '{given['activation']}' is not supported\n  known: {known}")
    known_keys = {*keys, *family.switches, *family.fixed, *family.derived}
    return given, tuple(key for key in values if key not in known_keys)


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
        told = ", ".join(f"{name} ({values[name]!r})" for name in lost)
        raise ModelError(f"a {family.name} folder cannot say {told}: take a preset of another family")
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
