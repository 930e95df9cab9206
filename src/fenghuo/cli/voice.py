"""`--quiet` and `--log-format`, the same for every verb."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Group, Parameter

from fenghuo.progress import configure

COMMON = Group("Run", sort_key=0)
SWITCH = Parameter(group=COMMON, show_default=False)
_VOICE = [
    inspect.Parameter(
        "quiet",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, SWITCH, Parameter(help="Say nothing but errors.")],
    ),
    inspect.Parameter(
        "log_format",
        inspect.Parameter.KEYWORD_ONLY,
        default="text",
        annotation=Annotated[
            Literal["text", "json"],
            Parameter(group=COMMON, help="json makes every line on stderr one JSON object."),
        ],
    ),
]


def with_voice(
    function: Callable[..., Any], keywords: list[inspect.Parameter] | None = None
) -> Callable[..., Any]:
    """`function` with the two flags, and with `keywords` in the place of its own `**` parameter."""

    @functools.wraps(function)
    def command(
        *args: Any, quiet: bool = False, log_format: Literal["text", "json"] = "text", **rest: Any
    ) -> Any:
        configure(quiet=quiet, log_format=log_format)
        return function(*args, **rest)

    hints = get_type_hints(function, include_extras=True)
    own = [
        one.replace(annotation=hints[one.name])
        for one in inspect.signature(function).parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    flags = [*own, *_VOICE, *(keywords or [])]
    command.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in flags}
    return command
