"""Which of a file's nested tables holds the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fenghuo.errors import ModelError
from fenghuo.models.released.machine import Inert

# XLM, LASER and fairseq: model. UniLM and training scripts: state_dict, module (DeepSpeed), model_state_dict.
WEIGHT_KEYS = ("model", "state_dict", "module", "model_state_dict", "net", "weights")
_MOST_DEEP = 4


def find_table(
    path: Path, value: object, is_array: Callable[[object], bool]
) -> tuple[dict[str, object], dict[str, object]]:
    """The table of arrays in what a file holds, and everything else by name.

    It is `value` where that holds arrays and no other table does; else the table under the first of
    `WEIGHT_KEYS`, else the only one. Optimizers keep their state in tables of tables, by number; they are
    seen as tables of arrays too, and named among the rest.

    Raises:
        ModelError: there is none, or nothing tells which.
    """
    beside: dict[str, object] = {}
    for _ in range(_MOST_DEEP):
        if not isinstance(value, Mapping):
            raise ModelError(f"{path}: not a table of named arrays")
        arrays = {key: one for key, one in value.items() if isinstance(key, str) and is_array(one)}
        tables = [key for key, one in value.items() if isinstance(one, Mapping) and _holds(one, is_array)]
        named = [key for key in WEIGHT_KEYS if key in tables]
        if not tables and arrays:
            return arrays, beside | {str(key): one for key, one in value.items() if key not in arrays}
        if not tables:
            raise ModelError(f"{path}: holds no named arrays")
        if not named and (arrays or len(tables) > 1):
            candidates = [*(["the outermost table"] if arrays else []), *map(str, tables)]
            raise ModelError(
                f"{path}: several tables of arrays, and nothing tells which holds the weights: "
                f"{', '.join(sorted(candidates)[:8])}"
            )
        chosen = named[0] if named else tables[0]
        beside |= {str(key): one for key, one in value.items() if key != chosen}
        value = value[chosen]
    raise ModelError(f"{path}: tables in tables, more than {_MOST_DEEP} deep")


def _holds(table: Mapping[object, object], is_array: Callable[[object], bool]) -> bool:
    # A pickle can put one table into itself, or into a million others: each is looked at once.
    waiting, seen = [table], {id(table)}
    while waiting:
        for one in waiting.pop().values():
            if is_array(one):
                return True
            if isinstance(one, Mapping) and id(one) not in seen:
                seen.add(id(one))
                waiting.append(one)
    return False


_PLAIN = (str, int, float, bool, type(None))
_MOST_SETTINGS = 2_000_000  # XLM's dictionaries of 200,000 words are settings too


def settings(beside: Mapping[str, object]) -> dict[str, Any]:
    """The plain values among what stands beside the weights; a pickled `argparse.Namespace` is its table."""
    left = _MOST_SETTINGS

    def plain(value: object, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MOST_DEEP:
            raise _NotPlainError
        if isinstance(value, Inert):
            value = value.state
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, Mapping):
            return {key: plain(one, depth + 1) for key, one in value.items() if isinstance(key, str | int)}
        if isinstance(value, list | tuple):
            return [plain(one, depth + 1) for one in value]
        raise _NotPlainError

    out = {}
    for key, value in beside.items():
        with suppress(_NotPlainError):
            out[key] = plain(value, 0)
    return out


class _NotPlainError(Exception):
    """A value that is no setting: an optimizer's state, an object."""
