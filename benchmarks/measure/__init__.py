"""Two programs doing the same work, timed in turn, so that a busy moment falls on both.

Every benchmark prints one JSON line a case. Quote none whose `spread` is above 1.3: the machine was busy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
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


class Peer:
    """A program of this folder (see program.py), told one JSON line at a time what to do, and answering each with one.

    It runs in `.venv-reference`, or with this Python where both sides are to be weighed in a process of their own.
    """

    def __init__(self, script: str, *, python: Path = REFERENCE) -> None:
        if python == REFERENCE and not REFERENCE.exists():
            subprocess.run(["make", ".venv-reference/.ready"], cwd=HOUSE, check=True, stdout=sys.stderr)
        self._process = subprocess.Popen(
            [python, Path(__file__).parent / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        )

    def ask(self, **question: Any) -> Any:
        """Its answer; an error where it ended instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the peer ended with {self._process.wait()}")
        return json.loads(line)

    def run(self) -> float:
        """One run of what was prepared last, in seconds."""
        return float(self.ask(do="run"))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


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
    more: Callable[[float, float], dict[str, Any]] = lambda mine_s, theirs_s: {},
) -> None:
    """Time both in turn after the warm-ups, and print the case's line: medians, in the unit.

    `more` is asked last, with both medians in seconds, for keys to append, such as peak memory.
    """
    for _ in range(warm_ups):
        ours(), peer()
    pairs = [(ours(), peer()) for _ in range(runs)]
    mine_s, theirs_s = ([pair[i] for pair in pairs] for i in (0, 1))
    mine, theirs = statistics.median(mine_s), statistics.median(theirs_s)
    line = {
        "benchmark": benchmark,
        "case": case,
        "unit": unit.name,
        "ours": round(unit.of(mine), unit.digits),
        "peer": round(unit.of(theirs), unit.digits),
        "peer_name": peer_name,
        "ratio": round(theirs / mine, 2),
        "spread": round(max(max(mine_s) / min(mine_s), max(theirs_s) / min(theirs_s)), 2),
        "runs": runs,
        "threads": THREADS,
        "versions": versions,
        **more(mine, theirs),
    }
    print(json.dumps(line), flush=True)
