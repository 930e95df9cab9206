"""Kills, damaged files, a full disk: nothing is lost, and the same command ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

import pytest
from tests.pretrain.processes import WEIGHTS, Runs

from fenghuo.rundir.spent import Spent

pytestmark = pytest.mark.slow

STEPS, KILLS = 80, 20


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    started = Runs(corpus, tmp_path_factory.mktemp("kills"), steps=STEPS, save_every=2)
    yield started
    started.close()


@pytest.fixture(scope="module")
def whole(runs: Runs) -> dict[int, bytes]:
    """World → the weights of a run that nothing broke."""
    found = {}
    for world in (1, 2):
        out = runs.home / f"whole-{world}"
        assert runs.wait(runs.start(out, world)) == [0] * world
        found[world] = (out / WEIGHTS).read_bytes()
    assert found[1] != found[2]  # other dropout
    return found


def newest_step(out: Path) -> int:
    return max((int(path.name[5:]) for path in (out / "checkpoints").glob("step-*")), default=0)


def until(out: Path, step: float) -> None:
    """Wait until a checkpoint of that step is there."""
    end_s = time.monotonic() + 120
    while newest_step(out) < step:
        assert time.monotonic() < end_s
        time.sleep(0.001)


@pytest.mark.parametrize("world", [1, 2])
def test_twenty_kills_leave_the_same_bytes(runs: Runs, whole: dict[int, bytes], world: int) -> None:
    """Each of the twenty falls into the running training or its saving; then the run is left to end."""
    draw, out, at = random.Random(20), runs.home / f"killed-{world}", []
    for number in range(KILLS):
        wanted = STEPS * (number + draw.random()) / (KILLS + 1)  # spread over the run, at no round step
        before, pids = newest_step(out), runs.start(out, world)
        # Alone also while it begins. Of two, one that is killed before they know of each other is torchrun's to notice.
        until(out, wanted if world == 1 else max(wanted, before + 1))
        time.sleep(draw.uniform(0, 0.05))
        victim = draw.randrange(world)
        os.kill(pids[victim], signal.SIGKILL)
        codes = runs.wait(pids)
        assert codes.pop(victim) == -signal.SIGKILL, "it ended before it was killed"
        assert codes == [1] * (world - 1)  # and it did not wait for ever
        if world > 1:
            told = runs.told(out, 1 - victim).read_text().splitlines()[-1]
            assert f"rank {victim} of 2, host {gethostname()}, pid {pids[victim]}: died" in told
        assert not (out / "result.json").exists()
        at.append(newest_step(out))
    assert len(set(at)) > KILLS // 2, at
    assert runs.wait(runs.start(out, world)) == [0] * world
    assert (out / WEIGHTS).read_bytes() == whole[world]


@pytest.mark.parametrize("world", [1, 2])
def test_a_budget_is_that_of_all_processes(runs: Runs, world: int) -> None:
    """Two kills, and no checkpoint but the early one: what they lost is not done again for free."""
    out, worked_s = runs.home / f"budget-{world}", 0.0
    flags = ("--budget", "6s", "--train.save_every", "100000", "--train.log_every", "100000")
    for _ in range(2):
        began_s, before_s = time.monotonic(), spent_s(out)
        pids = runs.start(out, world, *flags)
        while spent_s(out) < before_s + 1:
            time.sleep(0.01)
            assert time.monotonic() < began_s + 60
        os.kill(pids[-1], signal.SIGKILL)
        assert runs.wait(pids)[-1] == -signal.SIGKILL
        worked_s += time.monotonic() - began_s
    assert spent_s(out) > 2
    began_s = time.monotonic()
    assert runs.wait(runs.start(out, world, *flags)) == [0] * world
    worked_s += time.monotonic() - began_s
    told = json.loads((out / "result.json").read_text())
    assert told["budget_s"] == 6.0
    assert told["spent_s"] < worked_s
    assert told["spent_s"] == pytest.approx(6, abs=2)


def spent_s(out: Path) -> float:
    return Spent(out / "spent.json").read()


@pytest.mark.parametrize("world", [1, 2])
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_it_used(
    runs: Runs, whole: dict[int, bytes], world: int
) -> None:
    out = runs.home / f"damaged-{world}"
    stop(runs, out, world, after=16)
    last = newest_step(out)
    file = out / "checkpoints" / f"step-{last}" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert runs.wait(runs.start(out, world)) == [0] * world
    told = runs.told(out, 0).read_text()
    assert f"damaged checkpoint skipped, going back one: {file}: the bytes differ" in told
    assert (out / WEIGHTS).read_bytes() == whole[world]


@pytest.mark.parametrize("world", [1, 2])
def test_a_full_disk_is_told_once_and_costs_nothing(runs: Runs, whole: dict[int, bytes], world: int) -> None:
    """The system refuses files as large as a checkpoint's, as it would on a full disk."""
    out = runs.home / f"full-{world}"
    stop(runs, out, world, after=16)
    before = newest_step(out)
    assert runs.wait(runs.start(out, world, file_bytes=30_000)) == [1] * world
    assert newest_step(out) == before
    told = "".join(runs.told(out, rank).read_text() for rank in range(world))
    name = r" \(rank 0 of 2, host \S+, pid \d+\)" if world > 1 else ""
    assert len(re.findall(rf"fenghuo pretrain{name}: cannot write \S+step-\d+: File too large", told)) == 1
    assert "Traceback" not in told
    assert runs.wait(runs.start(out, world)) == [0] * world
    assert (out / WEIGHTS).read_bytes() == whole[world]


def test_a_flipped_byte_in_a_shard_is_named_by_every_number_of_ranks(runs: Runs, corpus: Path) -> None:
    shard = next((corpus / "shards").glob("*.arrow"))
    content = shard.read_bytes()
    try:
        damaged = bytearray(content)
        damaged[len(damaged) // 2] ^= 1
        shard.write_bytes(damaged)
        for world in (1, 2):
            out = runs.home / f"shard-{world}"
            assert runs.wait(runs.start(out, world)) == [1] * world
            told = "".join(runs.told(out, rank).read_text() for rank in range(world))
            assert told.count(f"{shard}: a damaged shard: its bytes are not those") == 1
    finally:
        shard.write_bytes(content)


def test_torchrun_ends_with_the_rank_that_dies_which_is_named(runs: Runs, whole: dict[int, bytes]) -> None:
    out = runs.home / "torchrun"
    words = ["torch.distributed.run", "--nproc-per-node", "2", "-m", "fenghuo", "pretrain", str(runs.recipe)]
    command = [sys.executable, "-m", *words, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as launched:
        until(out, STEPS / 3)
        victim = rank_1_of(launched.pid)
        os.kill(victim, signal.SIGKILL)
        _, told = launched.communicate(timeout=120)
    assert launched.returncode == 1
    assert told.count("fenghuo pretrain (rank 0 of 2") == 1
    assert re.search(
        rf"rank 1 of 2, host \S+, pid {victim}: died, or answers no more; the same command goes on", told
    )
    assert runs.wait(runs.start(out, 2)) == [0, 0]
    assert (out / WEIGHTS).read_bytes() == whole[2]


def rank_1_of(launcher: int) -> int:
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise AssertionError("torchrun has no rank 1")


def stop(runs: Runs, out: Path, world: int, *, after: int) -> None:
    """Begin a run and end it by a signal, which all ranks heed after the same step."""
    pids = runs.start(out, world)
    until(out, after)
    os.kill(pids[-1], signal.SIGTERM)
    assert runs.wait(pids) == [130] * world
    told = runs.told(out, 0).read_text()
    assert told.count("stopped at step") == 1
    assert all("stopped" not in runs.told(out, rank).read_text() for rank in range(1, world))
