"""Programs that show a run's measurements. metrics.jsonl is the record; what they hold is a copy of it.

A run that goes on begins its copy anew from the record, so that nothing stands there twice. None is used unasked, and
none asked for uses the network unless the user set its own variable for that.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from typing import TYPE_CHECKING, Any, Protocol

from fenghuo.errors import import_extra
from fenghuo.rundir.atomic import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Tracker(Protocol):
    """Takes lines of metrics.jsonl in their order."""

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Figures measured at a step."""
        ...

    def close(self) -> None:
        """Nothing follows."""
        ...


class TensorBoard:
    """Event files in `RUN/tensorboard`, one scalar a name: `tensorboard --logdir RUN`."""

    def __init__(self, run: Path) -> None:
        writer = import_extra("tensorboardX.event_file_writer", "track").EventsWriter
        self._event = import_extra("tensorboardX.proto.event_pb2", "track").Event
        self._summary = import_extra("tensorboardX.proto.summary_pb2", "track").Summary
        folder = run / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        # Not its SummaryWriter, whose thread holds lines back for two minutes, which a kill would take.
        self._writer = writer(str(folder / "events"))

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Figures measured at a step; on disk when it returns."""
        shown = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        summary = self._summary(value=shown)
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Nothing follows."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases in `RUN/wandb`, which `wandb sync` sends when the user wants that.

    Its mode is `offline` unless WANDB_MODE is set. `RUN/wandb/id` names it, so that a run that goes on is the same one;
    online, what is there of it already is not written again, since its steps only rise.
    """

    def __init__(self, run: Path) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode != "online":
            # Its own crash reports go over the network.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = import_extra("wandb", "track")
        folder = run / "wandb"
        name_file = folder / "id"
        if not name_file.exists():
            write_atomic(name_file, os.urandom(4).hex())
        name = name_file.read_text().strip()
        if mode == "offline":
            for older in folder.glob(f"offline-run-*-{name}"):
                shutil.rmtree(older, ignore_errors=True)
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True
        )
        self._run = wandb.init(
            dir=str(run),
            mode=mode,
            project=os.environ.get("WANDB_PROJECT", "fenghuo"),
            name=run.absolute().name,
            id=name,
            resume="allow" if mode == "online" else None,
            settings=settings,
        )

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Figures measured at a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Nothing follows."""
        self._run.finish()


_TRACKERS: dict[str, type[TensorBoard | WandB]] = {"tensorboard": TensorBoard, "wandb": WandB}


class Trackers:
    """Those of one run, begun from what it has measured so far.

    Raises:
        MissingExtraError: one is not installed.
    """

    def __init__(self, names: tuple[str, ...], run: Path, measured: list[dict[str, Any]]) -> None:
        self._names, self._run = names, run
        self._every: list[Tracker] = []
        self.begin_anew(measured)

    def begin_anew(self, measured: list[dict[str, Any]]) -> None:
        """Let the record say what is shown: some of its last lines are gone."""
        self.close()
        self._every = [_TRACKERS[name](self._run) for name in self._names]
        for line in measured:
            self.put(line["step"], line)

    def put(self, step: int, values: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl; what is no finite number is left out."""
        figures = {
            name: float(value) for name, value in values.items() if name != "step" and _is_figure(value)
        }
        for tracker in self._every:
            tracker.put(step, figures)

    def close(self) -> None:
        """Nothing follows."""
        for tracker in self._every:
            tracker.close()


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
