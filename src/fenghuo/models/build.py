"""A preset and some values → a config, and a fresh model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from fenghuo.errors import ModelError, did_you_mean
from fenghuo.models import FAMILIES
from fenghuo.models.family import Family
from fenghuo.net.config import EncoderConfig, HeadsConfig

if TYPE_CHECKING:
    from fenghuo.net.model import Model

PRESETS: dict[str, Family] = {preset: family for family in FAMILIES.values() for preset in family.presets}


def find_family(name: str) -> Family:
    """The card of that name.

    Raises:
        ModelError: there is none.
    """
    if name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ModelError(f"unknown family '{name}'.{did_you_mean(name, FAMILIES)}\n  known: {known}")
    return FAMILIES[name]


def encoder_config(
    preset: str | None, *, family: str | None = None, values: Mapping[str, Any] | None = None, vocab: int
) -> tuple[Family, EncoderConfig]:
    """The family's values, then the preset's, then `values`.

    Args:
        preset: such as `nezha-base`; None where `family` and `values` say it all.
        family: may be left out with a preset.
        values: fields of `EncoderConfig`.
        vocab: V, pieces.

    Raises:
        ModelError: an unknown name, or values that do not fit one another.
    """
    if preset is not None and preset not in PRESETS:
        known = ", ".join(sorted(PRESETS))
        raise ModelError(f"unknown preset '{preset}'.{did_you_mean(preset, PRESETS)}\n  known: {known}")
    if preset is None and family is None:
        raise ModelError(f"a model needs a preset or a family.\n  families: {', '.join(sorted(FAMILIES))}")
    card = PRESETS[preset] if family is None and preset is not None else find_family(str(family))
    if preset is not None and PRESETS[preset] is not card:
        raise ModelError(f"preset '{preset}' is of family '{PRESETS[preset].name}', not '{family}'")
    known_fields = [f.name for f in fields(EncoderConfig)]
    for key in values or {}:
        if key not in known_fields:
            raise ModelError(
                f"unknown model value '{key}'.{did_you_mean(key, known_fields)}\n"
                f"  known: {', '.join(sorted(known_fields))}"
            )
    shape = {} if preset is None else card.presets[preset]
    try:
        return card, EncoderConfig(**{**card.defaults, **shape, **(values or {}), "vocab": vocab})
    except (ValueError, TypeError) as problem:
        raise ModelError(f"model values: {problem}") from problem


def build(
    preset: str | None,
    *,
    family: str | None = None,
    values: Mapping[str, Any] | None = None,
    vocab: int,
    heads: HeadsConfig,
    seed: int,
) -> Model:
    """A fresh model in training mode; see `encoder_config`.

    Raises:
        ModelError: an unknown name, or values that do not fit one another.
    """
    from fenghuo.net.initial import build_model

    card, config = encoder_config(preset, family=family, values=values, vocab=vocab)
    if heads.pair and card.theirs("pair.out.weight") is None:
        raise ModelError(f"a {card.name} model has no head for pairs of sentences")
    if heads.span_boundary and card.theirs("span_boundary.bias") is None:
        raise ModelError(f"a {card.name} model has no head for the boundaries of spans")
    heads = replace(heads, pooler=heads.pooler and card.pooler)
    try:
        return build_model(config, heads, seed=seed, family=card.name)
    except ValueError as problem:
        raise ModelError(f"a {card.name} model: {problem}") from problem
