"""What a recipe is, and the flat list of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo


class Recipe(BaseModel):
    """Values that decide one run, or a part of them: frozen, and closed to keys it does not know.

    The docstring under a field is its help text, on the command line, in the template and in the docs alike.
    Where a recipe gives a part some of its keys, the others come from that field's default
    (`batch: BatchRecipe = BatchRecipe(rows=32)`), so the template tells the truth.
    """

    exactly_one: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Groups of keys of which one is given and the others are null; giving one undoes another's default."""

    changeable: ClassVar[tuple[str, ...]] = ()
    """Keys that an unfinished run may be gone on with under other values."""

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
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: cls._complete_one(name, value) for name, value in values.items()}

    @classmethod
    def _complete_one(cls, name: str, value: Any) -> Any:
        field = cls.model_fields.get(name)
        if field is None:
            return value
        kinds = members(field.annotation)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            # Python counts true as 1, so `steps: true` would train for one step. As text it is refused.
            return str(value).lower()
        default = _default(field)
        if (
            isinstance(value, dict)
            and isinstance(default, Recipe)
            and parts_of(field.annotation) == [type(default)]
        ):
            return default._with(value)
        return value

    def _with(self, given: dict[str, Any]) -> dict[str, Any]:
        """`given`, and this part's own values for the keys it does not give."""
        named = {name for name, value in given.items() if value is not None}
        undone = {name for group in self.exactly_one if named & {*group} for name in group}
        merged = {name: getattr(self, name) for name in self.model_fields_set - undone} | given
        for name, value in given.items():
            own = getattr(self, name, None)
            if isinstance(own, Recipe) and isinstance(value, dict):
                merged[name] = own._with(value)
        return merged

    @model_validator(mode="after")
    def _one_of_each_group(self) -> Self:
        for group in self.exactly_one:
            if sum(getattr(self, name) is not None for name in group) != 1:
                raise ValueError(f"give exactly one of {' and '.join(repr(name) for name in group)}")
        return self

    def changeable_paths(self) -> Iterator[str]:
        """The dotted paths of all `changeable` keys, those of parts too."""
        yield from self.changeable
        for name in type(self).model_fields:
            part = getattr(self, name)
            if isinstance(part, Recipe):
                yield from (f"{name}.{path}" for path in part.changeable_paths())


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
    instead_of: tuple[str, ...] = ()
    """Paths of the keys that are null where this one is given."""

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
            instead_of=tuple(
                prefix + other
                for group in kind.exactly_one
                if name in group
                for other in group
                if other != name
            ),
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
