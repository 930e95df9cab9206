"""Two programs doing the same work, timed in turn, so that a busy moment falls on both.

Every benchmark prints one JSON line a case. Quote none whose `spread` is above 1.3: the machine was busy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parent.parent.parent
THREADS = 2
REFERENCE = HOUSE / ".venv-reference" / "bin" / "python"


def arguments(about: str | None, *, quick_runs: int = 5, **more: str) -> argparse.Namespace:
    """`--quick` and `--case REGEX`, the same for every benchmark, and `more`: options by name, with what help says."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer timed runs: ten minutes at most")
    parser.add_argument("--case", default="", metavar="REGEX", help="only cases in which this is found")
    parser.add_argument(
        "--runs", type=int, help=f"timed runs a case; default {quick_runs} with --quick, else 20"
    )
    for name, told in more.items():
        parser.add_argument(f"--{name}", help=told)
    given = parser.parse_args()
    given.runs = given.runs or (quick_runs if given.quick else 20)
    return given


def wanted(cases: Iterable[str], pattern: str) -> list[str]:
    """The cases in which the pattern is found."""
    return [case for case in cases if re.search(pattern, case)]


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A function that does the work and returns the seconds it took."""

    def run() -> float:
        started_s = time.perf_counter()
        work()
        return time.perf_counter() - started_s

    return run


class EndedError(RuntimeError):
    """A program ended where an answer was due, perhaps for want of memory."""


class Peer:
    """A program of this folder (see program.py), told one JSON line at a time what to do, and answering each with one.

    It runs in `.venv-reference`, or with this Python where both sides are to be weighed in a process of their own. One
    that has ended is started anew by the next question, which must be to prepare.
    """

    def __init__(self, script: str, *, python: Path = REFERENCE) -> None:
        if python == REFERENCE and not REFERENCE.exists():
            subprocess.run(["make", ".venv-reference/.ready"], cwd=HOUSE, check=True, stdout=sys.stderr)
        self._command = [python, Path(__file__).parent / script]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **question: Any) -> Any:
        """Its answer. Raises EndedError."""
        process = self._process = self._process or subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            self.close()
            code = process.returncode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            raise EndedError(f"{self._command[1].name} {how}")
        return json.loads(line)

    def run(self) -> float:
        """One run of what was prepared last, in seconds."""
        return float(self.ask(do="run"))

    def close(self) -> None:
        """End the program, if it runs."""
        if self._process is not None:
            with suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None


@dataclass(frozen=True)
class Unit:
    """What a line's figures are, made from the seconds that were timed."""

    name: str
    of: Callable[[float], float]
    digits: int


MILLISECONDS = Unit("ms", lambda s: 1e3 * s, 2)


def side_by_side(
    benchmark: str,
    case: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    *,
    peer_name: str,
    runs: int,
    versions: dict[str, str],
    unit: Unit = MILLISECONDS,
    warm_ups: int = 2,
    more: Callable[[float, float | None], dict[str, Any]] = lambda mine_s, theirs_s: {},
) -> None:
    """Time both in turn after the warm-ups, and print the case's line: medians, in the unit.

    A peer that ends (EndedError) is asked no more, its figures are null, and `peer_ended` says how.

    `more` is asked last, with both medians in seconds, for keys to append, such as peak memory.
    """
    mine_s, theirs_s, ended = list[float](), list[float](), ""
    for _ in range(warm_ups + runs):
        mine_s.append(ours())
        if not ended:
            try:
                theirs_s.append(peer())
            except EndedError as end:
                ended = str(end)
    timed_s = [mine_s[warm_ups:]] if ended else [mine_s[warm_ups:], theirs_s[warm_ups:]]
    mine = statistics.median(timed_s[0])
    theirs = None if ended else statistics.median(timed_s[1])
    line = {
        "benchmark": benchmark,
        "case": case,
        "unit": unit.name,
        "ours": round(unit.of(mine), unit.digits),
        "peer": None if theirs is None else round(unit.of(theirs), unit.digits),
        "peer_name": peer_name,
        "ratio": None if theirs is None else round(theirs / mine, 2),
        "spread": round(max(max(one) / min(one) for one in timed_s), 2),
        "runs": runs,
        "threads": THREADS,
        "versions": versions,
        **({"peer_ended": ended} if ended else {}),
        **more(mine, theirs),
    }
    print(json.dumps(line), flush=True)
