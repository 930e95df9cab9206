"""The run folder, the same for every stage.

recipe.yaml  environment.json  metrics.jsonl  log.txt  spent.json  model/  checkpoints/  result.json

result.json is written last: it marks a finished run.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fenghuo.config import Recipe, dump_recipe, read_yaml
from fenghuo.errors import DamagedError, RecipeError, RunError
from fenghuo.progress import say
from fenghuo.ranks import is_first
from fenghuo.rundir.atomic import disk_error, sha256_of, sweep, write_atomic, write_json
from fenghuo.rundir.environment import hardware, versions
from fenghuo.rundir.launch import State, launch, state_of_rank_0
from fenghuo.rundir.lock import Lock
from fenghuo.rundir.metrics import Metrics
from fenghuo.rundir.place import clear, differences, holds_records_only, is_fresh, refuse_to_remove
from fenghuo.rundir.spent import Spent
from fenghuo.rundir.trackers import Trackers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class RunDir:
    """One run's folder, open for writing by this process alone. Made by `RunDir.open`.

    Under torchrun rank 0 holds the lock and writes; to the other ranks all that writes is a no-op.
    """

    def __init__(self, path: Path, verb: str, state: State, lock: Lock | None) -> None:
        self.path = path
        self.verb = verb
        self.state: State = state
        self.model = path / "model"
        self.checkpoints = path / "checkpoints"
        self._lock = lock
        self.began_s = time.monotonic()
        """When this process began to work on the run: what its share of a time budget counts from."""
        self._metrics = Metrics(path / "metrics.jsonl")
        self._spent = Spent(path / "spent.json")
        self._trackers: Trackers | None = None

    @classmethod
    def open(
        cls,
        out: Path,
        *,
        verb: str,
        recipe: Recipe,
        overwrite: bool = False,
        resume: Literal["auto", "never"] = "auto",
        inputs: Iterable[Path] = (),
    ) -> RunDir:
        """Begin a run in `out`, or go on with the one that is there.

        Absent or empty: `state` is "new". An unfinished run of the same verb and resolved recipe: "resume".
        A finished one: "finished", and nothing is locked or written.

        Args:
            out: the run folder.
            verb: the stage.
            recipe: resolved; written to recipe.yaml.
            overwrite: replace whatever folder is there.
            resume: `never` refuses an unfinished run.
            inputs: files beside those named in the recipe that `overwrite` must not remove.

        Raises:
            RunError: something else is in `out`, or another process is writing it.
            DiskError: the folder cannot be made.
        """
        if out.exists() and not out.is_dir():
            raise RunError(f"{out}: --out is a folder to make; there is a file of that name")
        if not is_first():
            # Only a finished run has a result, and rank 0 leaves that as it is.
            done = not overwrite and (out / "result.json").exists()
            return cls(out, verb, _state(out, verb, recipe, resume) if done else state_of_rank_0(out), None)
        if overwrite and not is_fresh(out):
            refuse_to_remove(out, recipe.model_dump(mode="json"), inputs)
        elif _state(out, verb, recipe, resume) == "finished":
            return cls(out, verb, "finished", None)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(out, error) from error
        lock = Lock(out)
        try:
            return cls._begin(out, verb, recipe, overwrite, resume, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _begin(
        cls,
        out: Path,
        verb: str,
        recipe: Recipe,
        overwrite: bool,
        resume: Literal["auto", "never"],
        lock: Lock,
    ) -> RunDir:
        if overwrite:
            clear(out)
        # Again, now that nobody else can change it.
        state = _state(out, verb, recipe, resume)
        run = cls(out, verb, state, lock)
        sweep(out)
        if state == "new":
            # The recipe last: a folder without one is begun again, whatever else was written.
            write_json(out / "environment.json", {"verb": verb})
            write_atomic(out / "recipe.yaml", dump_recipe(recipe))
        elif state == "resume":
            for folder in (run.checkpoints, run.model):
                sweep(folder)
            run._metrics.mend()
            run._take_up(recipe)
        lock.note({"launch": launch(), "state": state})
        if state == "finished":
            run.close()
        return run

    def _take_up(self, recipe: Recipe) -> None:
        """Note what a resumed run's recipe changes of those keys that may change."""
        asked = recipe.model_dump(mode="json")
        if changed := list(differences(self.read_recipe_yaml(self.path), asked)):
            self.log(f"going on with another recipe than before: {', '.join(changed)}")
            write_atomic(self.path / "recipe.yaml", dump_recipe(recipe))

    def environment(self, *, seed: int | None, inputs: Sequence[tuple[str, Path | str]]) -> None:
        """Write environment.json: versions, hardware, seed, and each input's role, path and sha256.

        On a resumed run it compares instead: other inputs make other results, so they are refused.

        Args:
            seed: what the run's randomness grows from, or None where it has none.
            inputs: (role, path); the role is one of teacher, student, model, corpus, data. A str is a URL, which
                gets no fingerprint.

        Raises:
            RunError: an input changed since the run began.
        """
        if self._lock is None:
            return
        found = [{"role": role, "path": str(path), "sha256": _fingerprint(path)} for role, path in inputs]
        values = {
            "verb": self.verb,
            "seed": seed,
            "versions": versions(),
            "hardware": hardware(),
            "inputs": found,
        }
        before = self.read_environment(self.path)
        for old, new in zip(before.get("inputs", []), found, strict=False):
            if self.state == "resume" and old != new:
                raise RunError(
                    f"{self.path}: the {new['role']} {new['path']} changed since this run began; "
                    "--overwrite starts anew"
                )
        if self.state == "resume" and before.get("versions", values["versions"]) != values["versions"]:
            changed = ", ".join(differences(before["versions"], values["versions"]))
            self.log(f"package versions changed since this run began, so its bits may differ: {changed}")
        write_json(self.path / "environment.json", values)

    def log(self, message: str) -> None:
        """Put a line into log.txt, with the time, and say it."""
        if self._lock is not None:
            try:
                with (self.path / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {message}\n")
            except OSError as error:
                raise disk_error(self.path / "log.txt", error) from error
        say(message)

    def metric(self, step: int, **values: Any) -> None:
        """Append one line to metrics.jsonl: `{"step": step, …}`; a number that is not finite becomes null."""
        if self._lock is not None:
            self._metrics.append(step, values)
        if self._trackers is not None:
            self._trackers.put(step, values)

    def track(self, names: Sequence[str]) -> None:
        """Copy all measurements, earlier and later ones, to trackers too: tensorboard, wandb.

        Raises:
            MissingExtraError: one is not installed.
        """
        if self._lock is not None and self._trackers is None and names:
            self._trackers = Trackers(tuple(dict.fromkeys(names)), self.path, self.metrics())

    def metrics(self) -> list[dict[str, Any]]:
        """Every measurement so far, oldest first. Raises DamagedError."""
        return self._metrics.read()

    def trim_metrics(self, step: int) -> None:
        """Drop measurements made after `step`; for a run that goes on from a checkpoint of that step."""
        if self._lock is None:
            return
        dropped = self._metrics.trim(step)
        if self._trackers is not None and dropped:
            self._trackers.begin_anew(self.metrics())

    def note_spent(self, spent_s: float) -> None:
        """Keep how long the run has taken over all its processes, whatever becomes of this one. Raises DiskError."""
        if self._lock is not None:
            self._spent.note(spent_s)

    def spent_s(self) -> float:
        """What `note_spent` kept last, in this process or an earlier one; 0 where nothing was."""
        return self._spent.read()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, which marks the run as finished, and let go of the folder."""
        if self._lock is not None:
            write_json(self.path / "result.json", dict(result))
        self.state = "finished"
        self.close()

    def forget(self) -> None:
        """Empty the folder of a run that began just now and has done nothing, so that the next call finds it free.

        Who mistyped the name of a file mends it and calls again, with another recipe then; no work stands in
        the way of that.
        """
        if self._lock is not None and self.state == "new" and holds_records_only(self.path):
            clear(self.path)

    def close(self) -> None:
        """Let go of the folder, finished or not. The end of the process does it too."""
        if self._trackers is not None:
            self._trackers.close()
            self._trackers = None
        if self._lock is not None:
            self._lock.release()

    @staticmethod
    def read_result(path: Path) -> dict[str, Any]:
        """The figures of a finished run. Raises RunError where `path` is not one."""
        if not (path / "result.json").exists():
            kind = "an unfinished run" if (path / "recipe.yaml").exists() else "not a run folder"
            raise RunError(f"{path}: {kind}; there is no result.json")
        return _read_json(path / "result.json")

    @staticmethod
    def read_environment(path: Path) -> dict[str, Any]:
        """A run's environment.json. Raises RunError where `path` has none."""
        if not (path / "environment.json").exists():
            raise RunError(f"{path}: not a run folder; there is no environment.json")
        return _read_json(path / "environment.json")

    @staticmethod
    def read_recipe_yaml(path: Path) -> dict[str, Any]:
        """A run's resolved recipe as plain values. Raises RunError where `path` has none."""
        if not (path / "recipe.yaml").exists():
            raise RunError(f"{path}: not a run folder; there is no recipe.yaml")
        return read_yaml(path / "recipe.yaml")


def _state(out: Path, verb: str, recipe: Recipe, resume: Literal["auto", "never"]) -> State:
    """What stands in `out`. Raises RunError where it is not this run."""
    if is_fresh(out):
        return "new"
    if not (out / "recipe.yaml").exists():
        some = ", ".join(sorted(one.name for one in out.iterdir())[:4])
        raise RunError(f"{out}: holds something that is no run ({some}); --overwrite replaces it")
    try:
        verb_there = RunDir.read_environment(out).get("verb")
        there = RunDir.read_recipe_yaml(out)
        finished = (out / "result.json").exists()
    except (DamagedError, RecipeError, RunError) as error:
        raise RunError(
            f"{out}: holds a run whose records are damaged ({error}); --overwrite replaces it"
        ) from None
    if verb_there != verb:
        raise RunError(f"{out}: holds a run of '{verb_there}', not of '{verb}'; --overwrite replaces it")
    free = () if finished else tuple(recipe.changeable_paths())
    other = list(differences(there, recipe.model_dump(mode="json"), free=free))
    if other:
        kind = "a finished run" if finished else "an unfinished run"
        raise RunError(
            "\n  ".join([f"{out}: holds {kind} of another recipe; --overwrite replaces it.", *other])
        )
    if finished:
        return "finished"
    if resume == "never":
        raise RunError(
            f"{out}: holds an unfinished run, and --resume never was given; --overwrite replaces it"
        )
    return "resume"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise DamagedError(f"{path}: not a mapping")
    return values


def _fingerprint(path: Path | str) -> str | None:
    with suppress(OSError):
        return None if isinstance(path, str) else sha256_of(path)
    return None
