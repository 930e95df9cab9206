"""Model folders in the Hugging Face layout: config.json and model.safetensors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as write_safetensors

from fenghuo.errors import ModelError
from fenghuo.models.build import build as build
from fenghuo.models.build import find_family
from fenghuo.models.configs import (
    CONFIG,
    config_json,
    find_config,
    read_json,
)
from fenghuo.models.configs import read_config as read_config
from fenghuo.models.recognize import Recognized, recognize
from fenghuo.models.released.opening import open_stored
from fenghuo.models.released.stored import Stored
from fenghuo.models.weights import SAFETENSORS, stored_tensors
from fenghuo.net.initial import empty_model
from fenghuo.net.model import Model
from fenghuo.rundir import write_atomic


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of each name in a folder."""

    folder: Path
    family: str
    loaded: tuple[str, ...]
    """Our names."""
    fresh: tuple[str, ...] = ()
    """Our names that the folder did not fill."""
    dropped: tuple[str, ...] = ()
    """Tensors in the file that hold no weight."""
    unexpected: tuple[str, ...] = ()
    """Tensors in the file that nothing here uses."""
    ignored_config: tuple[str, ...] = ()
    """Keys of config.json that change nothing here."""
    remarks: tuple[str, ...] = ()
    """What config.json does not say, or says in other words; those that begin with WARNING are guesses."""


def load_model(source: str | Path) -> Model:
    """Load a model; no tokenizer is needed.

    Args:
        source: a model folder, or a checkpoint or a file of weights with its config.json beside it.

    Returns:
        The model in evaluation mode, in float32, with the heads whose weights are there.

    Raises:
        ModelError: a missing, damaged or unsafe file, an unknown family, a missing tensor or a wrong shape.
    """
    model, report = load_with_report(source)
    for remark in report.remarks:
        if remark.startswith("WARNING"):
            warnings.warn(f"{source}: {remark}", stacklevel=2)
    return model


def load_with_report(source: str | Path) -> tuple[Model, LoadReport]:
    """`load_model`, and what became of each name in the folder."""
    source = Path(source)
    found = recognize_model(source)
    model, left = fill(found)
    report = LoadReport(
        folder=source,
        family=found.family.name,
        loaded=tuple(sorted(name for name, _ in model.named_parameters())),
        dropped=found.weights.dropped,
        unexpected=(*found.weights.unexpected, *left),
        ignored_config=tuple(key for key in found.ignored if key not in READ),
        remarks=found.remarks,
    )
    return model, report


def recognize_model(source: Path) -> Recognized:
    """What a folder, a checkpoint or a file holds, by every stage's one way of reading it.

    Raises:
        ModelError: as `open_model` and `recognize`; a configuration that says another number than the weights.
    """
    values, where, stored = open_model(source)
    found = recognize(stored, values, where)
    if found.contradictions:
        raise ModelError(f"{where}: {'; '.join(found.contradictions)}")
    return found


def fill(found: Recognized) -> tuple[Model, tuple[str, ...]]:
    """The model of recognized weights, in evaluation mode, and Hugging Face's names of what it has no place for.

    Raises:
        ModelError: a tensor that is missing, of another shape or damaged; encoder tensors without a place.
    """
    weights, task = found.weights, found.heads.task
    path = weights.stored.path

    def theirs(name: str) -> str:
        return found.family.theirs(name, task) or name

    if strange := weights.inside:
        raise ModelError(
            f"{path}: has encoder tensors that no {found.family.name} model has: {_some(strange, str)}"
        )
    model = empty_model(found.config, found.heads, family=found.family.name)
    wanted = {name: tuple(x.shape) for name, x in model.named_parameters()}
    missing = sorted(wanted.keys() - weights.shapes.keys() - weights.zeros)
    if missing:
        raise ModelError(f"{path}: {len(missing)} tensors are missing: {_some(missing, theirs)}")
    surplus = sorted(weights.shapes.keys() - wanted.keys())
    if encoder := [name for name in surplus if name.startswith("encoder.")]:
        raise ModelError(
            f"{path}: has tensors that its configuration has no place for: {_some(encoder, theirs)}"
        )
    for name in wanted.keys() & weights.shapes.keys():
        if weights.shapes[name] != wanted[name]:
            raise ModelError(f"{path}: {theirs(name)} is {weights.shapes[name]}; {wanted[name]} is wanted")
    state = {
        name: weights.read(name) if name in weights.shapes else torch.zeros(wanted[name]) for name in wanted
    }
    model.load_state_dict(state, assign=True)
    model.extra = {key: found.values[key] for key in found.ignored if key in _KEPT}
    return model.eval(), tuple(theirs(name) for name in surplus)


def open_model(source: Path) -> tuple[dict[str, Any], Path, Stored]:
    """The configuration, its path (of the weights, where there is none) and the arrays of a folder, a checkpoint or
    a file. Settings that a file of weights carries itself come before those beside it.

    Raises:
        ModelError: no such file, a damaged or an unsafe one.
    """
    config = find_config(source)
    stored = open_stored(source)
    values = {} if config is None else read_json(config)
    for key in SETTINGS:
        inside = stored.settings.get(key)
        if key == "cfg" and isinstance(inside, dict):
            inside = inside.get("model")
        if isinstance(inside, dict):
            values = {**values, **{name: value for name, value in inside.items() if isinstance(name, str)}}
    return values, config or stored.path, stored


SETTINGS = ("params", "args", "cfg")
"""What XLM, fairseq and fairseq since 0.10 (under "model" there) call the settings they store with the weights."""


# Keys of config.json that say what the outputs mean: a model keeps them from load to save.
_KEPT = (
    "fenghuo",
    "id2label",
    "label2id",
    "problem_type",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "mask_token_id",
)
# Keys that are read elsewhere, or say how the file was written.
READ = (
    "model_type",
    "architectures",
    "classifier_dropout",
    "classifier_dropout_prob",
    "summary_first_dropout",
    "torch_dtype",
    "dtype",
    "transformers_version",
    *_KEPT,
)


def _some(names: list[str], theirs: Callable[[str], str | None]) -> str:
    shown = ", ".join(theirs(name) or name for name in names[:3])
    return shown + (", …" if len(names) > 3 else "")


# Values that change what is computed and that no tensor's shape shows.
_UNSHAPED = (
    "heads",
    "position",
    "relative_clip",
    "same_length",
    "cutoffs",
    "first_position",
    "activation",
    "norm_eps",
    "norm_first",
    "widen",
    "shared",
    "entity_heads",
    "pooled_relu",
)


def load_into(model: Model, folder: str | Path, *, strict_encoder: bool = True) -> LoadReport:
    """Fill a model from a folder that may have other heads; what does not fit stays as it is.

    Args:
        model: keeps its device, its type and its mode.
        folder: a model folder of any family with the same computation.
        strict_encoder: an encoder tensor that is missing, left over or of another shape is an error.

    Raises:
        ModelError: as `load_model`; an encoder that computes something else.
    """
    folder = Path(folder)
    found = recognize_model(folder)
    weights, family, config = found.weights, found.family, found.config
    shared = ("layers",) if config.layer_groups < config.layers else ()
    for name in config.unlike(model.config):
        if name in (*_UNSHAPED, *shared):
            theirs, mine = getattr(config, name), getattr(model.config, name)
            raise ModelError(f"{folder}: its encoder has {name} {theirs}, the model {mine}")
    parameters = dict(model.named_parameters())
    fits = {n for n, p in parameters.items() if n in weights.shapes and tuple(p.shape) == weights.shapes[n]}
    fresh = sorted(parameters.keys() - fits)
    surplus = sorted(weights.shapes.keys() - fits)
    if strict_encoder:
        wrong = [name for name in dict.fromkeys(fresh + surplus) if name.startswith("encoder.")]
        if wrong:
            raise ModelError(
                f"{weights.stored.path}: encoder tensors are missing, left over or of another shape: "
                + _some(wrong, family.theirs)
            )
    with torch.no_grad():
        for name in sorted(fits):
            parameters[name].copy_(weights.read(name))
    return LoadReport(
        folder=folder,
        family=family.name,
        loaded=tuple(sorted(fits)),
        fresh=tuple(fresh),
        dropped=weights.dropped,
        unexpected=(*weights.unexpected, *(str(family.theirs(name)) for name in surplus)),
        ignored_config=tuple(key for key in found.ignored if key not in READ),
        remarks=found.remarks,
    )


def save_model(
    model: Model, folder: str | Path, *, family: str | None = None, extra: Mapping[str, Any] | None = None
) -> None:
    """Write config.json and model.safetensors, each atomically; other files of the folder stay.

    Args:
        family: by default the one the model was built or loaded as.
        extra: `labels`, the outputs' names in order; every other key goes into config.json as it is. By
            default what the folder it was loaded from said.

    Raises:
        ModelError: no family, or one whose files cannot hold this model.
        DiskError: the disk is full, read-only or gone.
    """
    folder = Path(folder)
    card = find_family(family or model.family)
    values = config_json(model.config, model.heads_config, card, {**model.extra, **(extra or {})})
    heads = model.heads_config
    ours = {name: x.detach().to("cpu") for name, x in model.named_parameters()}
    tensors = stored_tensors(card.form, ours, model.config.layers, heads.task)
    if card.class_name and not (heads.mlm or heads.pair or heads.task):  # transformers writes an encoder so
        tensors = {name.removeprefix(card.form.prefixes[0]): x for name, x in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / SAFETENSORS, write_safetensors(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG, json.dumps(values, ensure_ascii=False, indent=2) + "\n")
