"""One class a kind of failure, each with the exit code a shell sees.

0 is success; a failed gate (3) and an interruption (130) are told apart from mistakes (2) and failures (1),
so that scripts can react to each.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class FenghuoError(Exception):
    """Something went wrong that the user can read about in one message."""

    exit_code: int = 1


class UsageError(FenghuoError):
    """The user gave something that cannot be used."""

    exit_code: int = 2


class RecipeError(UsageError):
    """A recipe or a flag: unknown key, wrong value, missing key."""


class DataError(UsageError):
    """User data: missing, empty or binary file, wrong column, unknown label."""


class ModelError(UsageError):
    """A model folder or checkpoint that does not fit, or is not safe to read."""


class RunError(UsageError):
    """The output folder holds something else."""


class MissingExtraError(UsageError):
    """A stage whose optional packages are not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package '{package}': pip install 'fenghuo[{extra}]'")


def import_extra(module: str, extra: str, *, package: str | None = None) -> Any:
    """A module that comes with an extra.

    Args:
        package: what its package is called, where that is not the module's first name.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as problem:
        raise MissingExtraError(package or module.partition(".")[0], extra) from problem


class DamagedError(FenghuoError):
    """Bytes on disk differ from what was written there."""


class DiskError(FenghuoError):
    """The disk is full, read-only or gone."""


class DivergedError(FenghuoError):
    """A loss became NaN or infinite."""


class GateError(FenghuoError):
    """A quality gate (`--max-drop`) failed."""

    exit_code: int = 3


class StoppedError(FenghuoError):
    """Ctrl-C or SIGTERM; the work so far is saved."""

    exit_code: int = 130


class ToldError(FenghuoError):
    """Another process of this run tells the reason; this one ends in silence, with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this run says why it ends")
        self.exit_code = exit_code


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?", or "" where no known name is near."""
    near = get_close_matches(given, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
