"""Values, a YAML file and flags → a recipe; and a recipe → YAML."""

from __future__ import annotations

import json
from copy import deepcopy
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from fenghuo.config.problems import describe
from fenghuo.config.recipe import Recipe, RecipeKey, members, recipe_keys
from fenghuo.config.text import dump_yaml, read_yaml
from fenghuo.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

R = TypeVar("R", bound=Recipe)


def read_recipe(kind: type[R], path: Path | None, overrides: Mapping[str, Any]) -> R:
    """Make a recipe from a YAML file and flags; a flag wins over the file, the file over a default.

    Of keys of which one is given (`train.steps`, `train.epochs`) a flag takes the place of another in the file.

    Args:
        kind: the recipe's class.
        path: YAML file, or None where the flags say all.
        overrides: dotted key → value. Text is taken as a command line gives it: JSON for lists and
            mappings, `null` for nothing where nothing is allowed, digits for numbers.

    Raises:
        RecipeError: with the file or flag, the key, what was given and what is allowed.
    """
    where = "recipe" if path is None else str(path)
    values = {} if path is None else read_yaml(path)
    known = {key.path: key for key in recipe_keys(kind)}
    for path_of_key, value in overrides.items():
        key = known.get(path_of_key)
        plain = _plain(value, key, path_of_key)
        for other in key.instead_of if key is not None and plain is not None else ():
            if other not in overrides and _has(values, other):
                _put(values, other, None)
        _put(values, path_of_key, plain)
    if not values:
        required = [key.path for key in known.values() if key.required]
        # `train` is not named where `train.steps` is.
        needed = [one for one in required if not any(key.startswith(one + ".") for key in required)]
        raise RecipeError(
            f"{where}: empty recipe\n  needed: {', '.join(needed) or 'any key'}\n  a template: --print-recipe"
        )
    return _validate(kind, values, where, frozenset(overrides))


def build_recipe(kind: type[R], values: Mapping[str, Any], where: str = "recipe") -> R:
    """Make a recipe from Python values; `where` names their origin in messages. Raises RecipeError."""
    return _validate(kind, deepcopy(dict(values)), where, frozenset())


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every key, in the order of the fields. Reading it gives it back."""
    return dump_yaml(recipe.model_dump(mode="json"))


def _validate(kind: type[R], values: dict[str, Any], where: str, flags: frozenset[str]) -> R:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(describe(kind, error, values, where, flags)) from None
    except RecursionError:
        raise RecipeError(f"{where}: values are nested too deeply, or hold themselves") from None


def _plain(value: Any, key: RecipeKey | None, path: str) -> Any:
    if key is None:
        return value
    if isinstance(value, list | tuple) and len(value) == 1 and _looks_nested(value[0]):
        value = value[0]  # `--layers '[1, 2]'`, where `--layers 1 --layers 2` is also right
    if value == "null" and NoneType in members(key.annotation):
        return None
    if key.nested and _looks_nested(value):
        try:
            return json.loads(value)
        except ValueError as error:
            raise RecipeError(f"--{path}: given {value!r}, which is not valid JSON: {error}") from None
    return value


def _looks_nested(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip().startswith(("[", "{"))


def _has(values: Mapping[str, Any], path: str) -> bool:
    here: Any = values
    for name in path.split("."):
        if not isinstance(here, dict) or name not in here:
            return False
        here = here[name]
    return True


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    for depth, name in enumerate(sections):
        inner = values.get(name)
        if inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            above = ".".join(sections[: depth + 1])
            raise RecipeError(f"--{path}: '{above}' is {inner!r} in the recipe, which has no key '{last}'")
        # A copy: YAML anchors let two sections be one object, and a flag names only one of them.
        values[name] = values = dict(inner)
    values[last] = value
