"""What may be done with the folder named by `--out`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fenghuo.errors import RunError
from fenghuo.rundir.atomic import disk_error, fsync_folder
from fenghuo.rundir.lock import NAME as LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# A run that was killed while it began holds no more than these, whole or half written; it is begun again.
_BEGINNINGS = re.compile(r"\.lock|environment\.json|\.(environment\.json|recipe\.yaml)\.writing-.*")
SHOWN = 60
"""Characters of a value that differs."""
_RECORDS = re.compile(rf"{_BEGINNINGS.pattern}|recipe\.yaml|log\.txt")


def refuse_filled(out: Path) -> None:
    """Raise RunError unless the folder to make is absent or empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: there is something already; name a folder to make")


def is_fresh(out: Path) -> bool:
    """Whether a run can begin in `out` without harm to anything in it."""
    return not out.exists() or (
        out.is_dir() and all(_BEGINNINGS.fullmatch(one.name) for one in out.iterdir())
    )


def holds_records_only(out: Path) -> bool:
    """Whether a run in `out` got no further than its first records: nothing measured, nothing saved."""
    return all(
        _RECORDS.fullmatch(one.name) or (one.is_dir() and not any(one.iterdir())) for one in out.iterdir()
    )


def differences(there: Any, asked: Any, prefix: str = "", *, free: Sequence[str] = ()) -> Iterator[str]:
    """Each key whose value differs between two resolved recipes, as `key (5 there, 6 asked)`; `free` ones are left out.

    Lists of one length are told entry by entry (`input[0].path`); long values from shortly before they part.
    """
    if prefix in free:
        return
    if isinstance(there, dict) and isinstance(asked, dict):
        for name in dict.fromkeys([*there, *asked]):
            path = f"{prefix}.{name}".lstrip(".")
            yield from differences(there.get(name), asked.get(name), path, free=free)
    elif isinstance(there, list) and isinstance(asked, list) and len(there) == len(asked):
        for number, (one, other) in enumerate(zip(there, asked, strict=True)):
            yield from differences(one, other, f"{prefix}[{number}]", free=free)
    elif there != asked:
        one, other = repr(there), repr(asked)
        same = next(
            (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        yield f"{prefix} ({_cut(one, same)} there, {_cut(other, same)} asked)"


def refuse_to_remove(out: Path, recipe: dict[str, Any], inputs: Iterable[Path]) -> None:
    """Raise RunError where replacing `out` would take away more than a run.

    Args:
        out: the folder to replace.
        recipe: resolved; every text in it that is the path of something inside `out` counts as an input.
        inputs: further files that are read.
    """
    target = out.resolve()
    here, home = Path.cwd().resolve(), Path.home().resolve()
    for place, name in ((here, "the working directory"), (home, "the home folder")):
        if place == target or target in place.parents:
            raise RunError(f"{out}: --overwrite will not remove a folder that is or contains {name}")
    if target == Path(target.anchor) or target.is_mount() or (target / ".git").exists():
        raise RunError(f"{out}: --overwrite will not remove a root of a file system or of a repository")
    for path in [*inputs, *_paths_in(recipe)]:
        resolved = path.resolve()
        if resolved == target or target in resolved.parents:
            raise RunError(f"{out}: --overwrite will not remove a folder that holds an input ({path})")


def clear(out: Path) -> None:
    """Remove all in `out` but its lock; the recipe first, so that a half-removed run is not gone on with."""
    try:
        (out / "recipe.yaml").unlink(missing_ok=True)
        fsync_folder(out)
        for one in out.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one.name != LOCK:
                one.unlink()
    except OSError as error:
        raise disk_error(out, error) from error


def _paths_in(values: Any) -> Iterator[Path]:
    if isinstance(values, dict | list):
        for one in values.values() if isinstance(values, dict) else values:
            yield from _paths_in(one)
    elif (
        isinstance(values, str)
        and values
        and "\0" not in values
        and "://" not in values
        and len(values) < 4096
    ):
        # A glob's fixed beginning is what it reads from.
        fixed = values[: min((values.find(c) for c in "*?[" if c in values), default=len(values))]
        path = Path(values if fixed == values else fixed if fixed.endswith("/") else str(Path(fixed).parent))
        try:
            found = bool(fixed) and path.exists()
        except OSError:
            found = False
        if found and path != Path():
            yield path


def _cut(text: str, same: int) -> str:
    """At most `SHOWN` characters of a text, among them what follows the first `same` ones."""
    if len(text) > SHOWN and same > SHOWN // 2:
        text = f"…{text[same - SHOWN // 4 :]}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
