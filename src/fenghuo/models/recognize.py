"""What a file of weights is: its family, its form and its shape, from names, shapes and whatever config there is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fenghuo.errors import ModelError
from fenghuo.models import FAMILIES
from fenghuo.models.configs import check_derived, family_named, read_fields, task_of
from fenghuo.models.family import Family
from fenghuo.models.names import Form
from fenghuo.models.released.stored import Stored
from fenghuo.models.shapes import shape_values
from fenghuo.models.weights import Weights, coverage, name_weights, table_rows
from fenghuo.net.config import EncoderConfig, HeadsConfig

_MOST_LAYERS = 1000


@dataclass(frozen=True, kw_only=True)
class Recognized:
    """A file of weights, understood."""

    family: Family
    weights: Weights
    values: Mapping[str, Any]
    """The configuration's."""
    config: EncoderConfig
    heads: HeadsConfig
    remarks: tuple[str, ...] = ()
    """What the config did not say, or says in other words."""
    contradictions: tuple[str, ...] = ()
    """What the config says otherwise than the weights, which are believed."""
    ignored: tuple[str, ...] = ()
    """Keys of the config that change nothing here."""


def recognize(stored: Stored, values: Mapping[str, Any], where: Path) -> Recognized:
    """Find out what a file holds.

    Args:
        values: config.json's, or what the file says of itself; may be empty.
        where: the config file, or the weights where there is none, for messages.

    Raises:
        ModelError: no family has such names; a config that asks for another computation; a number that neither
            weights nor config tell.
    """
    task = task_of(values)
    family, form, remark = _family(stored, values, where, task)
    weights = name_weights(stored, form, task)
    _check_dimensions(weights)
    said, ignored = read_fields(values, family, where, form.config_keys)
    config, remarks, contradictions = _settle(family, form, weights, said, where)
    check_derived(config, family, values, where)
    return Recognized(
        family=family,
        weights=weights,
        values=values,
        config=config,
        heads=heads_of(family, weights, values, task or family.head),
        remarks=(*remark, *remarks),
        contradictions=contradictions,
        ignored=ignored,
    )


def _family(
    stored: Stored, values: Mapping[str, Any], where: Path, task: str | None
) -> tuple[Family, Form, tuple[str, ...]]:
    """The family and the form that fit best, and what to remark where the config names another one.

    Raises:
        ModelError: none fits, or the config names one that fits worse.
    """
    named = family_named(values, where.parent)
    fits: dict[str, _Fit] = {}
    for family in FAMILIES.values():
        count, form = max(
            ((coverage(stored, form, task), form) for form in family.forms), key=lambda pair: pair[0]
        )
        if count:
            fits[family.name] = _Fit(
                form=form,
                known=count,
                astray=_astray(family, form, table_rows(stored, form)),
                marks=_marks(family, stored, {} if named else values),
            )
    if not fits:
        some = ", ".join(list(stored)[:3]) or "none"
        whose = f"a {named.name} model" if named else "any family known here"
        raise ModelError(
            f"{stored.path}: its tensors are not those of {whose} (it has {len(stored)}: {some}, …)\n"
            f"  known: {', '.join(sorted(FAMILIES))}"
        )
    # Of equal fits the one that is named, then the first.
    best = FAMILIES[max(fits, key=lambda name: (fits[name].rank, named is not None and name == named.name))]
    fit = fits[best.name]
    if named is None or best is named:
        return best, fit.form, ()
    other = fits.get(named.name)
    if other is not None and other.known == fit.known and (why := best.also_named.get(named.name)):
        return best, fit.form, (f"family: config says {named.name}; taken as {best.name}, because {why}",)
    if other is not None and other.rank[:2] == fit.rank[:2]:
        return named, other.form, ()
    if other is None or other.known < fit.known:
        why = f"of its {len(stored)} tensors {best.name} has {fit.known}, {named.name} {other.known if other else 0}"
    else:
        why = f"of another kind or missing for {named.name}: {', '.join(other.astray)}"
    raise ModelError(
        f"{where}: says {named.name}, but {stored.path.name} holds a model of family {best.name}, as {fit.form.name} "
        f"names it ({why}). Each needs its own config: correct model_type, or take the one that came with the weights"
    )


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """How well a family's names fit a file."""

    form: Form
    known: int
    """Tensors that it has a name for."""
    astray: list[str]
    marks: int

    @property
    def rank(self) -> tuple[int, int, int]:
        return self.known, -len(self.astray), self.marks


def _astray(family: Family, form: Form, rows: Mapping[str, int]) -> list[str]:
    """The embedding tables that this family would lack or have too many, or of other rows than it can have."""
    wanted = {"words": True, "positions": family.defaults.get("position") == "learned"}
    wanted["segments"] = family.defaults.get("segments", 2) > 0
    out = [f"table of {name}" for name, there in wanted.items() if (name in rows) != there]
    if form.segments not in (None, rows.get("segments")):
        out.append("table of segments")
    return out


def _marks(family: Family, stored: Stored, values: Mapping[str, Any]) -> int:
    """How much speaks for this family where the names alone do not."""
    marked = bool(family.marks) and all(any(re.fullmatch(m, name) for name in stored) for m in family.marks)
    said = [key for key, only in family.fixed.items() if only and values.get(key) == only]
    return int(marked) + len(said)


def _check_dimensions(weights: Weights) -> None:
    """Matrices have two extents, everything else one; how large they are is looked at when there is a config.

    Raises:
        ModelError: one has others, or is empty.
    """
    for name, shape in weights.shapes.items():
        flat = name.endswith("bias") or name.split(".")[-2].endswith("norm")
        if len(shape) != (1 if flat else 2) or 0 in shape:
            source = weights.sources[name].name
            raise ModelError(
                f"{weights.stored.path}: {source} has the shape {weights.stored.shapes[source]}; "
                f"it must be {'a row' if flat else 'a matrix'} of numbers"
            )


def _other_types(said: tuple[str, ...], found: tuple[str, ...]) -> list[str]:
    """Layers that a config gives another type than the weights; those it does not name are sim."""
    said = (*said, *["sim"] * (len(found) - len(said)))
    if len(said) > len(found):
        return [f"layer_types has {len(said)} layers; the weights have {len(found)}"]
    return [
        f"layer_types is '{mine}' in layer {layer}; the weights have '{theirs}'"
        for layer, (mine, theirs) in enumerate(zip(said, found, strict=True))
        if mine != theirs
    ]


def _settle(
    family: Family, form: Form, weights: Weights, said: Mapping[str, Any], where: Path
) -> tuple[EncoderConfig, tuple[str, ...], tuple[str, ...]]:
    """Shapes before the config, the config before the form, the form before the family."""
    shaped = shape_values(weights, family)
    said = dict(said)
    remarks, contradictions = [], []
    keys = {name: key for key, name in (form.config_keys or family.config_keys).items()}
    if (meant := form.means.get(said.get("activation", ""))) is not None:
        remarks.append(f"activation: '{said['activation']}' in {form.name} code is {meant}")
        said["activation"] = meant
    for name, value in shaped.items():
        if name == "layer_types" and name in said:
            contradictions += _other_types(said[name], value)
        elif name == "layer_types":
            counts = ", ".join(f"{value.count(kind)} {kind}" for kind in dict.fromkeys(value))
            remarks.append(f"no config says layer_types: {counts}, by the tensors' names")
        elif name in said and said[name] != value:
            contradictions.append(f"{keys.get(name, name)} is {said[name]}; the weights have {value}")
    given = {**family.defaults, **form.defaults, **said, **shaped}
    names = [f.name for f in fields(EncoderConfig)]
    if "activation" not in given and any("activation" in preset for preset in family.presets.values()):
        given["activation"], remark = _activation(family, given, keys)
        remarks.append(remark)
    for name in ("layers", "heads"):
        if name not in given:
            preset, remark = _from_presets(name, family, given, where)
            given = {**preset, **given}
            remarks.append(remark)
    if given["layers"] > _MOST_LAYERS:  # one set of weights can be said to repeat any number of times
        raise ModelError(
            f"{where}: {keys['layers']} is {given['layers']:,}; at most {_MOST_LAYERS:,} are computed"
        )
    try:
        config = EncoderConfig(**{key: value for key, value in given.items() if key in names})
    except ValueError as problem:
        raise ModelError(f"{where}: {problem}") from problem
    return config, tuple(remarks), tuple(contradictions)


def _from_presets(
    name: str, family: Family, given: Mapping[str, Any], where: Path
) -> tuple[Mapping[str, Any], str]:
    """The values of the published model of the same width and depth, for what no shape shows.

    Raises:
        ModelError: there is none, or there are several and they differ.
    """
    known = {
        preset[name]: (title, preset)
        for title, preset in family.presets.items()
        if all(given.get(key, value) == value for key, value in _shape_of(preset).items())
    }
    if len(known) != 1:
        keys = {field: key for key, field in family.config_keys.items()}
        raise ModelError(
            f"{where}: nothing says how many {name} the model has, which its weights do not show: put a config.json "
            f"with {keys[name]} beside them"
        )
    value, (title, preset) = next(iter(known.items()))
    return preset, f"no config says {name}: {value}, as {title} has"


def _activation(family: Family, given: Mapping[str, Any], keys: Mapping[str, str]) -> tuple[str, str]:
    """That of the published models of these tables, where a family has several; and what to remark."""
    tables = {"max_length": 512, "segments": 2, "tasks": 0}
    known = {
        preset.get("activation", "gelu"): title
        for title, preset in family.presets.items()
        if all(
            given.get(key, value) == value for key, value in {**tables, **_shape_of(preset), **preset}.items()
        )
    }
    if len(known) == 1:
        value, title = next(iter(known.items()))
        return str(value), f"no config says {keys['activation']}: {value}, as {title} has"
    said = sorted({str(preset.get("activation", "gelu")) for preset in family.presets.values()})
    return "gelu", (
        f"WARNING: no config says {keys['activation']}, and {family.name} models have {' or '.join(said)}: "
        "gelu is taken"
    )


def _shape_of(preset: Mapping[str, Any]) -> dict[str, Any]:
    shape = {"inner_width": 4 * preset.get("width", 0), **preset}  # as `EncoderConfig` has it
    return {key: shape[key] for key in ("width", "inner_width", "layers") if key in shape}


def heads_of(family: Family, weights: Weights, values: Mapping[str, Any], task: str | None) -> HeadsConfig:
    """The heads whose weights are there; a head that is there in part is missed later, by name.

    Raises:
        ModelError: a classifier of which nothing says what it classifies.
    """
    there = {name.split(".", 1)[0] for name in weights.shapes}
    if "head" not in there:
        task = None
    elif task is None:
        raise ModelError(
            f"{weights.stored.path}: has a classifier, but `architectures` in config.json says neither "
            "ForSequenceClassification nor ForTokenClassification"
        )
    outputs = next((x[0] for name, x in weights.shapes.items() if name.startswith("head.out")), 0)
    dropout = values.get(family.head_dropout_key)
    return HeadsConfig(
        pooler="pooler" in there or "pair" in there or (task == "classify" and family.pooler),
        mlm=any(name.startswith("mlm.") for name in weights.shapes),
        pair="pair" in there,
        span_boundary="span_boundary" in there,
        entity="entity" in there,
        task=task,  # type: ignore[arg-type]
        outputs=outputs if task else 0,
        dropout=dropout if task and isinstance(dropout, int | float) else None,
    )
