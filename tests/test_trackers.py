"""Trackers hold what metrics.jsonl holds, and nothing leaves the machine unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fenghuo.config import Recipe
from fenghuo.errors import MissingExtraError
from fenghuo.rundir import RunDir


class Empty(Recipe):
    """Nothing to decide."""


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_follows_the_record_back_and_forth(tmp_path: Path) -> None:
    run = RunDir.open(tmp_path / "run", verb="pretrain", recipe=Empty())
    run.metric(1, **{"train/loss": 4.0})
    run.track(["tensorboard"])  # what was measured before is there too
    run.metric(2, **{"train/loss": 3.0, "train/note": None})
    run.metric(3, **{"train/loss": float("nan")})
    assert scalars(run.path, "train/loss") == [(1, 4.0), (2, 3.0)]
    run.trim_metrics(1)
    run.metric(2, **{"train/loss": 2.5})
    assert scalars(run.path, "train/loss") == [(1, 4.0), (2, 2.5)]
    run.close()


def test_nothing_is_tracked_unasked(tmp_path: Path) -> None:
    run = RunDir.open(tmp_path / "run", verb="pretrain", recipe=Empty())
    run.track([])
    run.metric(1, loss=1.0)
    run.close()
    assert not {"tensorboard", "wandb"} & {path.name for path in run.path.iterdir()}


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    for module in {package, *(one for one in sys.modules if one.startswith(f"{package}."))}:
        monkeypatch.setitem(sys.modules, module, None)
    run = RunDir.open(tmp_path / "run", verb="pretrain", recipe=Empty())
    with pytest.raises(MissingExtraError, match=rf"'{package}': pip install 'fenghuo\[track\]'"):
        run.track([name])
    run.close()


WANDB = """
import sys
from pathlib import Path
from fenghuo.config import Recipe
from fenghuo.rundir import RunDir

class Empty(Recipe):
    "Nothing to decide."

run = RunDir.open(Path(sys.argv[1]), verb="pretrain", recipe=Empty())
run.trim_metrics(int(sys.argv[2]))
run.track(["wandb"])
for step in range(int(sys.argv[2]) + 1, int(sys.argv[3]) + 1):
    run.metric(step, **{"train/loss": 1.0 / step})
run.close()
"""


@pytest.mark.slow
def test_wandb_stays_offline_and_has_each_point_once(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    for first, last in ((0, 4), (2, 6)):  # the second goes on after step 2
        done = subprocess.run(
            [sys.executable, "-c", WANDB, str(tmp_path / "run"), str(first), str(last)],
            capture_output=True,
            text=True,
            env=clean,
        )
        assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    [file] = folder.glob("*.wandb")
    from wandb.proto import wandb_internal_pb2 as records

    data, at, steps = file.read_bytes(), 7, []  # behind the file's header: LevelDB's log format
    assert len(data) < 1 << 15  # one block: each record is whole
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 6], "little")
        record = records.Record()
        record.ParseFromString(data[at + 7 : at + 7 + size])
        at += 7 + size
        if record.HasField("history"):
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            steps.append((record.history.step.num, round(1 / json.loads(items["train/loss"]))))
    assert steps == [(step, step) for step in range(1, 7)]
