"""What a long job says, where, and how often."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator

import pytest

from fenghuo import progress
from fenghuo.progress import complain, configure, say, track


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RANK", raising=False)
    configure()
    yield
    configure()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_goes_to_stderr_and_nothing_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    say("服务 [bold]很好[/bold]")
    assert capsys.readouterr() == ("", "服务 [bold]很好[/bold]\n")


def test_quiet_keeps_errors_only(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    configure(quiet=True)
    say("hello")
    with track("job", 2) as job:
        clock.now_s += 60
        job.advance()
    complain("broken")
    assert capsys.readouterr().err == "broken\n"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    configure(log_format="json")
    say("服务")
    with track("job", 4, "rows") as job:
        clock.now_s += 20
        job.advance(2, loss=1.5)
    complain("broken")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines[:1]] == ["服务"]
    assert {"label": "job", "done": 2, "total": 4, "loss": 1.5}.items() <= lines[1].items()
    assert lines[-1]["level"] == "error"
    assert all(line["time"] > 0 for line in lines)


def test_off_a_terminal_a_line_comes_at_most_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with track("job", 100, "rows") as job:
        for _ in range(100):
            clock.now_s += 0.35
            job.advance(loss=0.25)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # after 10, 20 and 30 seconds, and the last one
    assert lines[0] == "job: 29/100 2.9 rows/s, 0:00:25 left, loss 0.25"
    assert lines[-1].startswith("job: 100/100 ")


def test_the_last_line_is_not_said_twice(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with track("job", 100, "rows") as job:
        clock.now_s += 20
        job.advance(100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_quick_job_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with track("job", 3) as job:
        job.advance(3)
    assert capsys.readouterr().err == ""


def test_an_unknown_total_has_no_time_left(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with track("job", None) as job:
        clock.now_s += 10
        job.advance(20)
    assert capsys.readouterr().err.splitlines()[0] == "job: 20 2.0 it/s"


def test_what_an_earlier_process_did_is_no_speed_of_this_one(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with track("job", 2000, "rows") as job:
        job.set(1000)
        clock.now_s += 10
        job.advance(10)
    assert capsys.readouterr().err.splitlines()[0] == "job: 1010/2000 1.0 rows/s, 0:16:30 left"


def test_ranks_other_than_the_first_are_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    say("hello")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("nested", [False, True])
def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch, nested: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with track("outer [x]", 3) as outer:
        outer.advance(loss=0.5)
        if nested:
            with track("inner", None) as inner:
                inner.advance(5)
        say("a line [bold] between")
        outer.set(3)
    assert progress._settings.bars is None
    assert "a line [bold] between" in terminal.getvalue()
    assert "outer [x]" in terminal.getvalue()


@pytest.mark.parametrize("how", ["dumb", "json", "quiet"])
def test_no_bar_where_it_would_harm(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb" if how == "dumb" else "xterm")
    configure(quiet=how == "quiet", log_format="json" if how == "json" else "text")
    with track("job", 3) as job:
        job.advance(3)
    assert terminal.getvalue() == ""


def test_a_reader_that_left_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        say("nobody hears this")
        with track("job", 1) as job:
            job.advance()
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            broken.write("the pipe is indeed broken\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_a_closed_stderr_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    say("hello")
    with track("job", 1) as job:
        job.advance()


def test_the_bar_goes_away_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(ZeroDivisionError), track("job", 1):
        raise ZeroDivisionError
    assert progress._settings.bars is None
