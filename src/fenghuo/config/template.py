"""A recipe class → a commented YAML file to fill in."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from fenghuo.config.recipe import Recipe, RecipeKey, members, parts_of, recipe_keys
from fenghuo.config.text import dump_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 110


def template(kind: type[Recipe]) -> str:
    """A commented YAML template: required keys are blank, to fill in; the others have their defaults."""
    title = " ".join((kind.__doc__ or kind.__name__).split("\n\n")[0].split())
    head = [*_comment(title), "# Keys marked REQUIRED have no default; any other line may be left out."]
    keys = recipe_keys(kind)
    return "\n".join([*head, *(line for key in keys for line in _lines(key, keys))]) + "\n"


def _lines(key: RecipeKey, keys: list[RecipeKey]) -> Iterator[str]:
    above = [one for one in keys if key.path.startswith(f"{one.path}.")]
    # A part that is absent by default, or that is one of several choices, is shown but not chosen.
    hidden = any(not one.section or (one.default is None and not one.required) for one in above)
    indent = "  " * len(above)
    name = key.path.rsplit(".", 1)[-1]
    if not above:
        yield ""
    yield from (indent + line for line in _comment(_about(key)))
    yield from (indent + line for line in _kinds(key))
    if key.section and (key.required or key.default is not None):
        lines = [f"{name}:"]
    elif key.required and not hidden:
        lines = [f"{name}:  # REQUIRED"]
    elif key.default is None and type(None) not in members(key.annotation):
        lines = [f"{name}:"]
    else:
        lines = dump_yaml({name: _jsonable(key.default)}).rstrip("\n").split("\n")
    yield from (f"{indent}{'# ' if hidden else ''}{line}" for line in lines)


def _about(key: RecipeKey) -> str:
    items = "" if key.section else f"[{key.allowed}]"
    groups = [group for part in parts_of(key.annotation) if key.section for group in part.exactly_one]
    items += "".join(f" Give exactly one of {', '.join(group)}." for group in groups)
    records = len(_records(key))
    each = "Each is one of:" if records > 1 else "Each has:"
    return f"{key.help} {each if records else items}".strip()


def _records(key: RecipeKey) -> list[type[Recipe]]:
    """The kinds of record in a list."""
    inside = (argument for kind in members(key.annotation) for argument in get_args(kind))
    return [part for argument in inside for part in parts_of(argument)]


def _kinds(key: RecipeKey) -> Iterator[str]:
    """The keys of each kind of record, one a line; what all kinds have stands once, behind the others."""
    kinds = [[_in_record(one) for one in recipe_keys(part)] for part in _records(key)]
    common = (
        [line for line in kinds[0] if all(line in lines for lines in kinds[1:])] if len(kinds) > 1 else []
    )
    for lines in kinds:
        own = [line for line in lines if line not in common]
        for number, line in enumerate(own):
            yield from _comment(line, begin="    " if number else "  - ", go_on="      ")
    if common:
        yield from _comment("  and each:")
    for line in common:
        yield from _comment(line, begin="    ", go_on="      ")


def _in_record(key: RecipeKey) -> str:
    value = "REQUIRED" if key.required else dump_yaml(_jsonable(key.default)).split("\n")[0]
    return f"{key.path}: {value}  {key.help} [{key.allowed}]"


def _comment(text: str, begin: str = "", go_on: str = "") -> list[str]:
    wrapped = textwrap.wrap(
        text, WIDTH - 2, initial_indent=begin, subsequent_indent=go_on, break_long_words=False
    )
    return [f"# {line}" for line in wrapped]


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    if isinstance(value, dict):
        return {name: _jsonable(one) for name, one in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
