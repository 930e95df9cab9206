"""What `/openapi.json` says of requests and answers. The reading itself is `rows.read_row`."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string", "minLength": 1}
ID = {"description": "Comes back with the answer.", "anyOf": [{"type": "string"}, {"type": "integer"}]}
SCORE = {"type": "number"}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _one_or_many(one: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [one, {"type": "array", "items": one}, *others]}


def _error(description: str) -> dict[str, Any]:
    body = _object({"error": {"type": "string"}, "error_type": {"type": "string"}}, "error", "error_type")
    return {"description": description, "content": {"application/json": {"schema": body}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: _error("The body is not JSON"),
    401: _error("The key is missing or wrong"),
    413: _error("Too large: the body, a text, or the number of rows"),
    422: _error("JSON, but no question for this model"),
    429: _error("The queue is full; see Retry-After"),
    503: _error("The service is shutting down"),
}

_ENTITY = _object(
    {
        "start": {"type": "integer", "description": "First character."},
        "end": {"type": "integer", "description": "One past the last character."},
        "label": {"type": "string"},
        "text": {"type": "string"},
        "score": SCORE,
    }
)
_TEI = _object(
    {
        "inputs": {
            "description": "A text, a pair [text, text], or a batch [[text], [text, text], …]",
            "anyOf": [TEXT, {"type": "array", "items": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}}],
        },
        "truncate": {"type": "boolean", "default": True},
        "raw_scores": {"type": "boolean", "default": False},
    },
    "inputs",
)

_ROWS: dict[str, dict[str, Any]] = {
    "classify": _object({"id": ID, "text": TEXT}, "text"),
    "pair": _object({"id": ID, "text": TEXT, "text_pair": TEXT}, "text", "text_pair"),
    "regress": _object({"id": ID, "text": TEXT, "text_pair": TEXT}, "text"),
    "tag": {
        "oneOf": [
            _object({"id": ID, "text": TEXT}, "text"),
            _object({"id": ID, "tokens": {"type": "array", "items": {"type": "string"}}}, "tokens"),
        ]
    },
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "classify": {"text": "房间干净，服务也很好。"},
    "pair": {"text": "怎么改密码", "text_pair": "如何修改密码"},
    "regress": {"text": "怎么改密码", "text_pair": "如何修改密码"},
    "tag": {"text": "张三在北京大学读书。"},
}


def request_body(kind: str) -> dict[str, Any]:
    """The body of the task's route."""
    shape = _one_or_many(_ROWS[kind], *([] if kind == "tag" else [_TEI]))
    if kind in ("classify", "tag"):  # a list may hold bare texts
        shape["oneOf"][1]["items"] = {"anyOf": [_ROWS[kind], TEXT]}
    content = {"schema": shape, "example": _EXAMPLES[kind]}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def answers(kind: str) -> dict[int | str, dict[str, Any]]:
    """The 200 of the task's route."""
    scores = {"type": "object", "additionalProperties": SCORE, "description": "With all_scores, every class."}
    one = {
        "tag": _object({"id": ID, "entities": {"type": "array", "items": _ENTITY}}, "entities"),
        "regress": _object({"id": ID, "score": SCORE}, "score"),
    }.get(
        kind,
        _object({"id": ID, "label": {"type": "string"}, "score": SCORE, "scores": scores}, "label", "score"),
    )
    content = {"application/json": {"schema": _one_or_many(one)}}
    return {200: {"description": "An answer, or a list of them in the order of the rows", "content": content}}
