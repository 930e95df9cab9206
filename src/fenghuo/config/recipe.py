"""What a recipe is, and the flat list of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo


class Recipe(BaseModel):
    """Values that decide one run, or a part of them: frozen, and closed to keys it does not know.

    The docstring under a field is its help text, on the command line, in the template and in the docs alike.
    A part's defaults belong on the part's class: a recipe that names one key of a part takes the others
    from there.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),  # `model` and `model_…` are honest names here
    )

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, values: Any) -> Any:
        # Python counts true as 1, so `steps: true` would train for one step. As text it is refused.
        if not isinstance(values, dict):
            return values
        return {
            name: str(value).lower() if isinstance(value, bool) and cls._is_number(name) else value
            for name, value in values.items()
        }

    @classmethod
    def _is_number(cls, name: str) -> bool:
        kinds = members(cls.model_fields[name].annotation) if name in cls.model_fields else []
        return bool not in kinds and (int in kinds or float in kinds)


@dataclass(frozen=True, kw_only=True)
class RecipeKey:
    """One key of a recipe, however deep, as the command line and the template see it."""

    path: str
    """Dotted, such as `train.steps`."""
    annotation: Any
    required: bool
    default: Any
    """None also where `required`."""
    help: str
    section: bool
    """It holds a part (a nested recipe) and nothing else, so its keys are given one by one."""

    @property
    def many(self) -> bool:
        """Whether it holds a list."""
        return any(get_origin(kind) in (list, tuple) for kind in members(self.annotation))

    @property
    def nested(self) -> bool:
        """Whether text given for it is JSON where it looks like JSON: lists, mappings, parts."""
        return any(
            get_origin(kind) in (list, tuple, dict) or _is_recipe(kind) or kind is dict
            for kind in members(self.annotation)
        )

    @property
    def allowed(self) -> str:
        """The type in words, such as `a whole number` or `'piece' | 'word'`."""
        return " | ".join(dict.fromkeys(_in_words(kind) for kind in members(self.annotation)))


def recipe_keys(kind: type[Recipe]) -> list[RecipeKey]:
    """Every key of a recipe in the order of its fields, a part's keys after the part itself."""
    return list({key.path: key for key in _keys(kind, "", required=True, instance=None)}.values())


def members(annotation: Any) -> list[Any]:
    """The alternatives of a type: `A | B | None` → [A, B, None], without `Annotated` wrappers."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in members(part)]
    return [annotation]


def parts_of(annotation: Any) -> list[type[Recipe]]:
    """The recipe classes a type may hold, in place or as items of a list or values of a mapping."""
    found = []
    for kind in members(annotation):
        if _is_recipe(kind):
            found.append(kind)
        elif get_origin(kind) is not Literal:
            found += [part for argument in get_args(kind) for part in parts_of(argument)]
    return found


def _keys(kind: type[Recipe], prefix: str, *, required: bool, instance: Recipe | None) -> Iterator[RecipeKey]:
    for name, field in kind.model_fields.items():
        path = prefix + name
        kinds = members(field.annotation)
        parts = [one for one in kinds if _is_recipe(one)]
        needed = required and field.is_required()
        default = _default(field) if instance is None else getattr(instance, name)
        yield RecipeKey(
            path=path,
            annotation=field.annotation,
            required=needed,
            default=default,
            help=" ".join((field.description or "").split()),
            section=len(parts) == 1 and all(one is NoneType for one in kinds if one not in parts),
        )
        for part in parts:
            within = default if isinstance(default, part) else None
            yield from _keys(part, f"{path}.", required=needed, instance=within)


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _is_recipe(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Recipe)


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    NoneType: "null",
    Any: "anything",
    dict: "a mapping",
    list: "a list",
}


def _in_words(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(repr(value) for value in arguments)
    if origin in (list, tuple):
        items = [_in_words(one) for part in arguments if part is not Ellipsis for one in members(part)]
        return f"a list of ({' | '.join(dict.fromkeys(items))})"
    if origin in (dict, Mapping) or origin is not None:
        return "a mapping"
    if _is_recipe(kind):
        return f"a mapping ({', '.join(kind.model_fields)})"
    return getattr(kind, "__name__", str(kind))
