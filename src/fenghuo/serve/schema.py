"""What `/openapi.json` says of requests and answers. The reading itself is `rows.read_row`."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string", "minLength": 1}
ID = {"description": "Comes back with the answer.", "anyOf": [{"type": "string"}, {"type": "integer"}]}
SCORE = {"type": "number"}


def _object(title: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"title": title, "type": "object", "properties": properties, "required": list(required)}


def _error(description: str) -> dict[str, Any]:
    body = _object(
        "Error", {"error": {"type": "string"}, "error_type": {"type": "string"}}, "error", "error_type"
    )
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
    "Entity",
    {
        "start": {"type": "integer", "description": "First character."},
        "end": {"type": "integer", "description": "One past the last character."},
        "label": {"type": "string"},
        "text": {"type": "string"},
        "score": SCORE,
    },
    *("start", "end", "label", "text", "score"),
)
_INFERENCE = _object(
    "TextEmbeddingsInference",
    {
        "inputs": {
            "description": "A text, a pair [text, text], or a batch [[text], [text, text], …].",
            "anyOf": [TEXT, {"type": "array", "items": {}}],
        },
        "truncate": {"type": "boolean", "default": True, "description": "false refuses longer texts."},
        "raw_scores": {
            "type": "boolean",
            "default": False,
            "description": "Logits instead of probabilities.",
        },
    },
    "inputs",
)
_TOKENS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Instead of text: joined as in training.",
}
_ROWS: dict[str, dict[str, Any]] = {
    "classify": _object("Row", {"id": ID, "text": TEXT}, "text"),
    "pair": _object("Row", {"id": ID, "text": TEXT, "text_pair": TEXT}, "text", "text_pair"),
    "regress": _object("Row", {"id": ID, "text": TEXT, "text_pair": TEXT}, "text"),
    "tag": _object("Row", {"id": ID, "text": TEXT, "tokens": _TOKENS}),
}
_SCORES = {"type": "object", "additionalProperties": SCORE, "description": "With all_scores: every class."}
_CLASS = _object(
    "Answer", {"id": ID, "label": {"type": "string"}, "score": SCORE, "scores": _SCORES}, "label", "score"
)
_ANSWERS: dict[str, dict[str, Any]] = {
    "classify": _CLASS,
    "pair": _CLASS,
    "regress": _object("Answer", {"id": ID, "score": SCORE}, "score"),
    "tag": _object("Answer", {"id": ID, "entities": {"type": "array", "items": _ENTITY}}, "entities"),
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "classify": {"text": "房间干净，服务也很好。"},
    "pair": {"text": "怎么改密码", "text_pair": "如何修改密码"},
    "regress": {"text": "怎么改密码", "text_pair": "如何修改密码"},
    "tag": {"text": "王小明在北京大学读书。"},
}


def request_body(kind: str) -> dict[str, Any]:
    """The body of the task's route."""
    row = _ROWS[kind]
    bare = {"title": "[string, string]", "type": "array", "items": TEXT} if kind == "pair" else TEXT
    shape = {"oneOf": [row, {"type": "array", "items": {"anyOf": [row, bare]}}]}
    if kind != "tag":
        shape["oneOf"].append(_INFERENCE)
    content = {"schema": shape, "example": _EXAMPLES[kind]}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def answers(kind: str) -> dict[int | str, dict[str, Any]]:
    """The 200 of the task's route."""
    one = _ANSWERS[kind]
    content = {"application/json": {"schema": {"oneOf": [one, {"type": "array", "items": one}]}}}
    return {200: {"description": "An answer, or a list of them in the order of the rows", "content": content}}
