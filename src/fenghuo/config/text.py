"""YAML text ⇄ plain values, with the scalars people expect.

PyYAML follows YAML 1.1, where `no` is false, `1e-4` is text and `010` is eight. A recipe is read by the
core schema of YAML 1.2 (yaml.org/spec/1.2.2, section 10.3.2) instead. Only plain values are made: a tag
that asks for a Python object is an error.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import yaml

from fenghuo.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

LARGEST_BYTES = 4 * 1024 * 1024  # what is bigger is data given by mistake; PyYAML reads about 1 MB in 10 s

_SCALARS = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN"),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "tag:yaml.org,2002:merge": (r"<<", "<"),
}


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, (pattern, first_letters) in _SCALARS.items():
        for letter in [*first_letters, *([""] if tag.endswith("null") else [])]:
            table.setdefault(letter, []).append((tag, re.compile(rf"(?:{pattern})\Z")))
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                raise yaml.MarkedYAMLError(problem=f"key '{name}' stands twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only this style escapes what YAML would fold as a line end (NEL, U+2028) and lone surrogates.
    plain = all(one.isprintable() or one in "\n\t" for one in text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with text keys; {} where the file holds nothing.

    Raises:
        RecipeError: absent, unreadable, binary or invalid file, a key that stands twice, not a mapping.
    """
    text = _read_text(path)
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise RecipeError(f"{place}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"{path}: not valid YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping (`key: value` lines); given: {_kind_of(values)}")
    for key in values:
        if not isinstance(key, str):
            raise RecipeError(f"{path}: key {key!r} is {_kind_of(key)}; allowed: text")
    return values


def dump_yaml(values: Any) -> str:
    """Plain values as YAML that `read_yaml` reads back as the same values, keys in the given order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise RecipeError(f"{path}: a recipe is a YAML file; given: a folder{_files_within(path)}")
        size_bytes = path.stat().st_size
        if size_bytes > LARGEST_BYTES:
            raise RecipeError(
                f"{path}: {size_bytes:,} bytes is too much for a recipe; allowed: {LARGEST_BYTES:,}"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file.{_near_file(path)}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: not a text file (byte {error.start} is not UTF-8); a recipe is YAML in UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if "\0" in text:
        raise RecipeError(
            f"{path}: not a text file (byte {text.index(chr(0))} is NUL); a recipe is YAML in UTF-8"
        )
    return text


def _near_file(path: Path) -> str:
    try:
        names = [one.name for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml")]
    except OSError:
        return f" There is no folder '{path.parent}' either." if not path.parent.exists() else ""
    near = get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f" Did you mean '{path.parent / near[0]}'?" if near else ""


def _files_within(folder: Path) -> str:
    names = sorted(one.name for one in folder.glob("*.y*ml"))[:3]
    return f" (with {', '.join(names)})" if names else ""


def _kind_of(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
