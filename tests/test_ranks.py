"""Which rank speaks, and what the command line does under torchrun before ranks know of one another."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import fenghuo.cli
from fenghuo import ranks
from fenghuo.cli import main
from fenghuo.errors import DataError, FenghuoError, StoppedError, ToldError

ToldBy = Callable[..., tuple[int, str, list[float]]]


@pytest.fixture
def told_by(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> ToldBy:
    """(rank of two, words or an error to end with) → (exit code, stderr)."""
    waits: list[float] = []
    monkeypatch.setattr(fenghuo.cli.time, "sleep", waits.append)

    def call(rank: int, words: list[str], error: FenghuoError | None = None) -> tuple[int, str, list[float]]:
        waits.clear()
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        if error is not None:

            def fail(words: list[str], verb: str | None) -> None:
                raise error

            monkeypatch.setattr(fenghuo.cli, "_call", fail)
        return main(words), capfd.readouterr().err, list(waits)

    return call


def test_a_process_alone_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (ranks.rank(), ranks.size(), ranks.is_first()) == (0, 1, True)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (ranks.rank(), ranks.size(), ranks.is_first()) == (3, 4, False)
    assert ranks.name() == f"rank 3 of 4, host {socket.gethostname()}, pid {os.getpid()}"


def test_what_is_wrong_for_all_ranks_is_told_by_the_first(told_by: ToldBy) -> None:
    code, told, waits = told_by(0, ["pretrain", "--typo", "1"])
    assert (code, waits) == (2, [])
    assert told.startswith(f"fenghuo pretrain ({ranks.name()}): ")
    # Another one waits to be ended by the launcher; alive after that, it is alone with its error.
    code, told, waits = told_by(1, ["pretrain", "--typo", "1"])
    assert (code, waits) == (2, [fenghuo.cli.WAIT_FOR_RANK_0_S])
    assert told.startswith(f"fenghuo pretrain ({ranks.name()}): ")


@pytest.mark.parametrize(
    ("rank", "error", "tells"),
    [
        (0, StoppedError("stopped at step 3"), True),
        (1, StoppedError("stopped at step 3"), False),
        (0, ToldError(1), False),
        (1, ToldError(130), False),
        (1, DataError("no such file"), True),
    ],
)
def test_each_error_is_told_once(told_by: ToldBy, rank: int, error: FenghuoError, tells: bool) -> None:
    code, told, _ = told_by(rank, ["pretrain"], error)
    assert code == error.exit_code
    assert told == (f"fenghuo pretrain ({ranks.name()}): {error}\n" if tells else "")


def test_a_stage_for_one_process_is_not_spread(told_by: ToldBy, tmp_path: Path) -> None:
    words = [
        "finetune",
        "--task",
        '{"kind": "classify"}',
        "--data",
        '{"train": "rows.tsv"}',
        "--model.preset",
        "bert-base",
    ]
    code, told, _ = told_by(0, [*words, "--train.steps", "1", "--out", str(tmp_path / "run")])
    assert code == 2
    assert "finetune runs in one process: start it without torchrun" in told
    assert not (tmp_path / "run").exists()
