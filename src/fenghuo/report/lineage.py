"""Finished runs, and which one each came from.

A run's `environment.json` names its inputs with their SHA-256. A student's teacher stands there as `teacher`; a
quantized or pruned model names what it was made from as `model` (or `student`). Going up while the figures stay
comparable (same task, same metric, same evaluated file) leads to the teacher that a whole line is measured
against. A path alone proves nothing: what stands there may have been trained anew since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fenghuo.errors import RunError
from fenghuo.rundir import RunDir, sha256_of

WEIGHTS = "model.safetensors"
"""What stands for a model among a run's inputs: its bytes stay when the folder gets an export beside it."""

ROLES_UP = ("teacher", "model", "student")
"""Inputs that a line goes up by, the likeliest first."""


@dataclass(frozen=True)
class Run:
    """One finished run, as its files have it."""

    path: Path
    result: Mapping[str, Any]
    environment: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Run:
        """Read a run folder, or the one that a `model` folder belongs to.

        Raises:
            RunError: not a run folder, or an unfinished one.
        """
        folder = _run_folder(path)
        return cls(folder, RunDir.read_result(folder), RunDir.read_environment(folder))

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """The resolved recipe."""
        return RunDir.read_recipe_yaml(self.path)

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def inputs(self) -> list[Mapping[str, Any]]:
        found = self.environment.get("inputs", [])
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def text(self, name: str) -> str | None:
        """A figure of `result.json` that is a text."""
        value = self.result.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> float | None:
        """A figure of `result.json` that is a number."""
        value = self.result.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def answers(self) -> bool:
        """Whether the run's model answers a task that was evaluated on a file."""
        return self.text("examples_file") is not None and (self.model / "config.json").is_file()

    def comparable(self, other: Run) -> bool:
        """Whether the main figures of both mean the same thing."""
        if not (self.answers and other.answers):
            return False
        if any(self.text(name) != other.text(name) for name in ("task", "metric")):
            return False
        ours, theirs = self._examples_sha256(), other._examples_sha256()
        if ours is None or theirs is None:
            return self.text("examples_file") == other.text("examples_file")
        return ours == theirs

    def _examples_sha256(self) -> str | None:
        for given in self.inputs:
            if given.get("role") == "data" and given.get("path") == self.text("examples_file"):
                digest = given.get("sha256")
                return digest if isinstance(digest, str) else None
        return None


class Lineage:
    """Finds the run that another run's input was, on disk or among those at hand."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._known = {run.path.resolve(): run for run in runs}
        self._by_digest: dict[str, Run] | None = None
        self._sha256: dict[Path, str] = {}

    def teacher(self, run: Run) -> Run | None:
        """The run that `run` is measured against, the top of its line; None where it is the top itself."""
        above = self._above(run)
        seen = {run.path.resolve()}
        while above is not None and above.path.resolve() not in seen:
            seen.add(above.path.resolve())
            higher = self._above(above)
            if higher is None:
                return above
            above = higher
        return above

    def problems(self, run: Run) -> list[str]:
        """Why a run that names what it was made from has nothing to be measured against; empty where it names
        nothing."""
        for role in _roles_up(run):
            if inputs := [given for given in run.inputs if given.get("role") == role]:
                return [f"its {role} {self._reason(given)}" for given in inputs]
        return []

    def _reason(self, given: Mapping[str, Any]) -> str:
        folder = _run_folder(Path(str(given.get("path"))))
        if self._find(given) is not None:
            return f"{folder} was evaluated on another file or metric"
        if self._at(folder) is None:
            return f"{folder} is no finished run here"
        return f"{folder} is another model by now: it was trained anew"

    def _above(self, run: Run) -> Run | None:
        for role in _roles_up(run):
            for given in run.inputs:
                found = self._find(given) if given.get("role") == role else None
                if found is not None and run.comparable(found):
                    return found
        return None

    def _find(self, given: Mapping[str, Any]) -> Run | None:
        """By path, if the bytes there are still the ones that were used; else by these among the runs at hand."""
        path, digest = Path(str(given.get("path", ""))), given.get("sha256")
        there = self._at(path)
        if there is not None and (digest is None or self._digest(path) == digest):
            return there
        return self._digests().get(str(digest))

    def _at(self, path: Path) -> Run | None:
        """The finished run that a path lies in; None where there is none, as in a model folder from elsewhere."""
        if not path.exists():
            return None
        folder = _run_folder(path)
        if folder.resolve() not in self._known:
            try:
                self._known[folder.resolve()] = Run.read(folder)
            except RunError:
                return None
        return self._known[folder.resolve()]

    def _digest(self, path: Path) -> str:
        """A teacher has many students: its bytes are read once."""
        place = path.resolve()
        if place not in self._sha256:
            self._sha256[place] = sha256_of(place)
        return self._sha256[place]

    def _digests(self) -> dict[str, Run]:
        # Reads the weights of every run: only where a path leads nowhere, or astray.
        if self._by_digest is None:
            self._by_digest = {}
            for run in list(self._known.values()):
                if (run.model / WEIGHTS).is_file():
                    self._by_digest.setdefault(self._digest(run.model / WEIGHTS), run)
        return self._by_digest


def _roles_up(run: Run) -> Sequence[str]:
    # Whoever fine-tunes a fine-tuned model further makes nothing smaller: no line goes through that.
    return ROLES_UP[:1] if run.text("role") == "finetuned" else ROLES_UP


def _run_folder(path: Path) -> Path:
    """The run that a path among its files belongs to: the run itself, its `model` folder or the weights in it."""
    if path.name == WEIGHTS:
        path = path.parent
    return path.parent if path.name == "model" and not (path / "result.json").exists() else path


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Read finished runs, in the order given and each once.

    Raises:
        RunError: a path that is not a finished run.
    """
    runs: dict[Path, Run] = {}
    for path in paths:
        run = Run.read(path)
        runs.setdefault(run.path.resolve(), run)
    return list(runs.values())
