"""The house stands: imports run down only, and what must be light is light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fenghuo

HOUSE = Path(fenghuo.__file__).parent
FLOORS = (
    ("config", "errors", "rundir", "progress", "ranks", "cores", "workers"),
    ("text", "net", "training"),
    ("corpus", "models"),
    ("objectives", "tasks"),
    ("pretrain", "finetune", "compress", "serve"),
    ("study", "report", "demo"),
    ("cli",),
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = ("torch", "onnxruntime", "transformers", "datatrove", "pyarrow", "matplotlib", "fastapi")
# `fenghuo.load_model` and the like are doors to rooms, opened on first use; `python -m fenghuo` is one to `cli`.
DOORS = {"__init__.py", "__main__.py"}


def files() -> list[Path]:
    return sorted(path for path in HOUSE.rglob("*.py") if path.relative_to(HOUSE).as_posix() not in DOORS)


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """(line, dotted name, level) of every import, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            # `from fenghuo import text` names its room only in what is imported.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "fenghuo" else [base]
            yield from ((node.lineno, name, node.level) for name in names)


def places_in_text(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of texts such as `"fenghuo.room.file:name"`, which are imports by other means."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            parts = name.split(".")
            if parts[0] == "fenghuo" and len(parts) > 1 and parts[1] in FLOOR:
                yield node.lineno, name


def ids(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in files()}
    assert rooms <= FLOOR.keys(), (
        f"no floor for {sorted(rooms - FLOOR.keys())}: see the design before adding a room"
    )


@pytest.mark.parametrize("path", files(), ids=ids)
def test_imports_only_run_down(path: Path) -> None:
    room = room_of(path)
    below = [(line, name) for line, name, _ in imports(path)] + list(places_in_text(path))
    for line, name in below:
        head, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if head != "fenghuo" or other in ("", "__version__", room):
            continue
        assert other in FLOOR, f"{path}:{line}: imports '{name}', which is no room"
        assert FLOOR[other] < FLOOR[room] or (FLOOR[other] == FLOOR[room] == 0), (
            f"{path}:{line}: {room} (floor {FLOOR[room]}) may not import {other} (floor {FLOOR[other]})"
        )


def test_floor_0_has_no_circle() -> None:
    """Its rooms may lean on each other (a run folder holds a recipe), but in one order."""
    leans: dict[str, set[str]] = {room: set() for room in FLOORS[0]}
    for path in files():
        if room_of(path) in leans:
            names = {name.split(".")[1] for _, name, _ in imports(path) if name.startswith("fenghuo.")}
            leans[room_of(path)] |= (names & leans.keys()) - {room_of(path)}
    while leans:
        free = [room for room, others in leans.items() if not others & leans.keys()]
        assert free, f"a circle among {sorted(leans)}"
        for room in free:
            del leans[room]


@pytest.mark.parametrize("path", files(), ids=ids)
def test_imports_are_absolute(path: Path) -> None:
    relative = [line for line, _, level in imports(path) if level]
    assert not relative, f"{path}:{relative}: relative imports hide the room they come from"


@pytest.mark.parametrize("path", [path for path in files() if room_of(path) in ("text", "corpus")], ids=ids)
def test_text_and_corpus_do_without_torch(path: Path) -> None:
    assert not [line for line, name, _ in imports(path) if name.split(".")[0] == "torch"], str(path)


@pytest.mark.parametrize("path", files(), ids=ids)
def test_transformers_is_never_imported(path: Path) -> None:
    assert not [line for line, name, _ in imports(path) if name.split(".")[0] == "transformers"], str(path)


def light_modules() -> list[str]:
    """`fenghuo`, each room's `__init__`, every module of recipes, and all of `config` and `rundir`."""
    light = ["fenghuo"]
    for path in files():
        parts = path.relative_to(HOUSE).with_suffix("").parts
        if path.name == "__init__.py":
            light.append(".".join(["fenghuo", *parts[:-1]]))
        elif path.name == "recipe.py" or FLOOR.get(parts[0]) == 0 or parts[0] == "cli":
            light.append(".".join(["fenghuo", *parts]))
    return light


BLOCKED = """
import importlib, importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} may not be imported here", name=name)

blocked, modules = sys.argv[1].split(","), sys.argv[2].split(",")
sys.meta_path.insert(0, Blocker())
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        sys.exit(f"{module}: {error}")
"""


def blocked(packages: tuple[str, ...], modules: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, ",".join(packages), ",".join(modules)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HOUSE.parent)},
    )


def test_the_blocker_blocks() -> None:
    done = blocked(("json",), ["json"])
    assert "json may not be imported here" in done.stderr


def test_recipes_and_rooms_are_light() -> None:
    done = blocked((*HEAVY, "numpy", "tokenizers"), light_modules())
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_serving_does_without_torch() -> None:
    modules = [
        ".".join(["fenghuo", *path.relative_to(HOUSE).with_suffix("").parts]).removesuffix(".__init__")
        for path in files()
        if room_of(path) == "serve"
    ]
    done = blocked(("torch", "safetensors", "pyarrow", "datatrove"), modules)
    assert done.returncode == 0, done.stderr
