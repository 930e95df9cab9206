"""Which of a file's nested tables holds the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fenghuo.errors import ModelError

# XLM, LASER and fairseq: model. UniLM and training scripts: state_dict, module (DeepSpeed), model_state_dict.
WEIGHT_KEYS = ("model", "state_dict", "module", "model_state_dict", "net", "weights")
_MOST_DEEP = 4


def find_table(
    path: Path, value: object, is_array: Callable[[object], bool]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The table of arrays in what a file holds, and the names of everything else.

    It is `value` where that holds arrays and no other table does; else the table under the first of
    `WEIGHT_KEYS`, else the only one. Optimizers keep their state in tables of tables, by number; they are
    seen as tables of arrays too, and named among the rest.

    Raises:
        ModelError: there is none, or nothing tells which.
    """
    skipped: list[str] = []
    for _ in range(_MOST_DEEP):
        if not isinstance(value, Mapping):
            raise ModelError(f"{path}: not a table of named arrays")
        arrays = {key: one for key, one in value.items() if isinstance(key, str) and is_array(one)}
        tables = [key for key, one in value.items() if isinstance(one, Mapping) and _holds(one, is_array)]
        named = [key for key in WEIGHT_KEYS if key in tables]
        if not tables and arrays:
            return arrays, (*skipped, *(str(key) for key in value if key not in arrays))
        if not tables:
            raise ModelError(f"{path}: holds no named arrays")
        if not named and (arrays or len(tables) > 1):
            candidates = [*(["the outermost table"] if arrays else []), *map(str, tables)]
            raise ModelError(
                f"{path}: several tables of arrays, and nothing tells which holds the weights: "
                f"{', '.join(sorted(candidates)[:8])}"
            )
        chosen = named[0] if named else tables[0]
        skipped += [str(key) for key in value if key != chosen]
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
