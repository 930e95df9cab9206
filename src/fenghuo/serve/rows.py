"""What may be asked: one reading of a row for Python, for `fenghuo predict` and for the service."""

from __future__ import annotations

import json
from typing import Any

from fenghuo.errors import DataError
from fenghuo.tasks.decode import is_blank, join_tokens


class BadJsonError(DataError):
    """Bytes that are no JSON."""


def read_row(row: Any, kind: str) -> tuple[str, str | None]:
    """A row → its text, and the second text of a pair.

    Raises:
        DataError: what is missing or wrong, in the words of the row.
    """
    if isinstance(row, str):
        row = {"text": row}
    elif isinstance(row, tuple | list) and len(row) == 2:
        row = {"text": row[0], "text_pair": row[1]}
    elif not isinstance(row, dict):
        raise DataError(f"a text, a pair of texts or an object was wanted, found {type(row).__name__}")
    if kind == "tag" and "tokens" in row:
        tokens = row["tokens"]
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DataError("'tokens' must be a list of texts")
        row = {"text": join_tokens(tokens)}
    text = _text(row, "text")
    if kind == "pair" or (kind == "regress" and row.get("text_pair") is not None):
        return text, _text(row, "text_pair")
    if row.get("text_pair") is not None:
        raise DataError(f"'text_pair' was given, but this model's task '{kind}' takes one text")
    return text, None


def _text(row: dict[str, Any], key: str) -> str:
    if key not in row:
        raise DataError(f"no '{key}' in it. Found: {', '.join(map(str, row)) or 'nothing'}")
    text = row[key]
    if not isinstance(text, str):
        raise DataError(f"'{key}' must be text, found {type(text).__name__}")
    if is_blank(text):
        raise DataError(f"'{key}' is empty")
    return text


def parse_json(given: bytes) -> Any:
    """JSON as the standard has it: UTF-8, and no NaN.

    Raises:
        BadJsonError: with the place.
    """
    try:
        return json.loads(given.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as problem:
        raise BadJsonError(f"not UTF-8 (byte {problem.start}: {problem.reason})") from None
    except json.JSONDecodeError as problem:
        raise BadJsonError(f"not JSON (character {problem.pos}: {problem.msg})") from None
    except (RecursionError, ValueError) as problem:  # nested too deep; a number of a million digits
        raise BadJsonError(f"not usable JSON ({problem})") from None


def to_json(answer: Any) -> bytes:
    """An answer as one line of JSON, in UTF-8."""
    try:
        return json.dumps(answer, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # an id with a lone surrogate goes back escaped, as it came
        return json.dumps(answer).encode()


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
