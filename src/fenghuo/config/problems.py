"""pydantic's errors → one message: where, what was given, what is allowed, and the nearest right name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from fenghuo.config.recipe import Recipe, parts_of, recipe_keys
from fenghuo.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "none": "null",
    "finite": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "{} or less"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "too_short": ("min_length", "at least {} items"),
    "too_long": ("max_length", "at most {} items"),
    "string_too_short": ("min_length", "at least {} characters"),
    "string_too_long": ("max_length", "at most {} characters"),
    "string_pattern_mismatch": ("pattern", "text that matches {}"),
}


def describe(
    kind: type[Recipe], error: ValidationError, values: Any, where: str, flags: frozenset[str]
) -> str:
    """All that is wrong with `values`, one paragraph a key."""
    grouped: dict[str, list[tuple[list[str | int], ErrorDetails]]] = {}
    for one in error.errors(include_url=False):
        path = _path_in_values(one, values)
        grouped.setdefault(_dotted(path), []).append((path, one))
    # A union of text and a part complains twice when the part has a wrong key: the deeper place is the cause.
    deepest = [key for key in grouped if not any(other != key and _within(other, key) for other in grouped)]
    return "\n".join(_paragraph(kind, key, grouped[key], where, flags) for key in deepest)


def _paragraph(
    kind: type[Recipe],
    key: str,
    group: Sequence[tuple[list[str | int], ErrorDetails]],
    where: str,
    flags: frozenset[str],
) -> str:
    origin = next((f"--{flag}" for flag in flags if key == flag or _within(key, flag)), where)
    place = f"{origin}: " if origin == f"--{key}" else f"{origin}: {key}: " if key else f"{origin}: "
    path, first = group[0]
    kinds = {one["type"] for _, one in group}
    if kinds == {"extra_forbidden"}:
        return _unknown(kind, origin, key, path, first)
    if "missing" in kinds or "union_tag_not_found" in kinds:
        return _missing(kind, origin, key, first)
    allowed = list(dict.fromkeys(_allowed(one, kind, path) for _, one in group))
    custom = [
        str(one["ctx"]["error"]) for _, one in group if one["type"] in ("value_error", "assertion_error")
    ]
    if custom:
        return f"{place}{'; '.join(dict.fromkeys(custom))}" + (
            f" (given {_short(first['input'])})" if key else ""
        )
    names = re.findall(r"'([^']*)'", " ".join(allowed))
    given = first["input"]
    if first["type"] == "union_tag_invalid" and isinstance(given, dict):
        given = given[path[-1]]
    near = did_you_mean(given, names) if isinstance(given, str) else ""
    return f"{place}given {_short(given)}; allowed: {' or '.join(allowed)}.{near}"


def _unknown(kind: type[Recipe], origin: str, key: str, path: list[str | int], error: ErrorDetails) -> str:
    name = str(path[-1])
    siblings = list(
        dict.fromkeys(field for part in _parts_at(kind, error["loc"][:-1]) for field in part.model_fields)
    )
    near = did_you_mean(name, siblings)
    if kinds := [] if near else _kinds_with(kind, error["loc"][:-2], name):
        near = f" It is a key of {' and '.join(kinds)}."
    if not near:  # right name in the wrong section
        elsewhere = [one.path for one in recipe_keys(kind) if one.path.split(".")[-1] == name]
        near = f" Did you mean '{elsewhere[0]}'?" if elsewhere else ""
    section = f" in '{_dotted(path[:-1])}'" if len(path) > 1 else ""
    given = f" (given {_short(error['input'])})"
    return (
        f"{origin}: unknown key '{key}'{given}.{near}\n  known keys{section}: {', '.join(sorted(siblings))}"
    )


def _kinds_with(kind: type[Recipe], location: Sequence[str | int], name: str) -> list[str]:
    """Of the kinds of record that may stand at a place, those that have this key."""
    parts = _parts_at(kind, location)
    return [_tag_of(part) for part in parts if name in part.model_fields] if len(parts) > 1 else []


def _tag_of(part: type[Recipe]) -> str:
    """What a record says it is: the one value that is allowed for one of its keys."""
    choices = [get_args(field.annotation) for field in part.model_fields.values()]
    return next((str(only[0]) for only in choices if len(only) == 1), part.__name__)


def _missing(kind: type[Recipe], origin: str, key: str, error: ErrorDetails) -> str:
    if error["type"] == "union_tag_not_found":
        tag = str(error["ctx"]["discriminator"]).strip("'")
        choices = [
            repr(value)
            for part in _parts_at(kind, error["loc"])
            if tag in part.model_fields and get_origin(part.model_fields[tag].annotation) is Literal
            for value in get_args(part.model_fields[tag].annotation)
        ]
        return f"{origin}: missing key '{key}.{tag}'\n  allowed: {' | '.join(choices)}"
    known = {one.path: one for one in recipe_keys(kind)}.get(re.sub(r"\[\d+\]", "", key))
    help_text = f" ({known.help})" if known is not None and known.help else ""
    allowed = f"\n  allowed: {known.allowed}" if known is not None else ""
    return f"{origin}: missing key '{key}'{help_text}{allowed}"


def _allowed(error: ErrorDetails, kind: type[Recipe], path: list[str | int]) -> str:
    name, context = error["type"], error.get("ctx", {})
    if name in _BOUNDS:
        field, words = _BOUNDS[name]
        return words.format(context[field])
    if name in ("literal_error", "enum"):
        return str(context["expected"])
    if name == "union_tag_invalid":
        return str(context["expected_tags"])
    if name in ("model_type", "model_attributes_type", "dataclass_type"):
        fields = dict.fromkeys(field for part in _parts_at(kind, error["loc"]) for field in part.model_fields)
        return f"a mapping with keys {', '.join(fields)}"
    return _TYPES.get(name.split("_")[0], error["msg"])


def _parts_at(kind: type[Recipe], location: Sequence[str | int]) -> list[type[Recipe]]:
    """Recipe classes that may stand at pydantic's location, whose steps are keys, indices and union tags."""
    parts = [kind]
    for step in location:
        below = [part for part in parts if step in part.model_fields]
        if below:
            parts = [one for part in below for one in parts_of(part.model_fields[str(step)].annotation)]
        else:
            parts = [part for part in parts if step in _tags(part)] or parts
    return parts


def _tags(part: type[Recipe]) -> set[Any]:
    literals = [
        field.annotation for field in part.model_fields.values() if get_origin(field.annotation) is Literal
    ]
    return {part.__name__, *(value for one in literals for value in get_args(one))}


def _path_in_values(error: ErrorDetails, values: Any) -> list[str | int]:
    """pydantic's location without the names of union members, which are no keys of the recipe."""
    path: list[str | int] = []
    last = len(error["loc"]) - 1
    for position, step in enumerate(error["loc"]):
        is_key = (
            step in values if isinstance(values, dict) else isinstance(values, list) and isinstance(step, int)
        )
        if is_key:
            values = values[step]
        elif position < last or error["type"] not in ("missing", "extra_forbidden"):
            continue
        path.append(step)
    if error["type"] == "union_tag_invalid":
        path.append(str(error["ctx"]["discriminator"]).strip("'"))
    return path


def _dotted(path: Sequence[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _within(key: str, above: str) -> bool:
    return above == "" or key.startswith((f"{above}.", f"{above}["))


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
