"""The other end of `Peer`: a program that is told one JSON line at a time what to do. Needs torch, and no fenghuo."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from memory import Resident, peak_mib

THREADS = 2


def serve(prepare: Callable[..., Callable[[], object]], answer: object) -> None:
    """Answer until standard input ends.

    Args:
        prepare: the keys of a question with `do` "prepare" → the work that the following questions are about.
        answer: to "prepare", such as a version.

    "run" is answered with the seconds of one call; "memory" with what `peak_mib` says of it (time nothing after
    that); "resident" with the MiB that preparing and all calls since have held at their highest.
    """
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    work: Callable[[], object] | None = None
    resident: Resident | None = None
    for line in sys.stdin:
        question: dict[str, Any] = json.loads(line)
        told: object = answer
        if (do := question.pop("do")) == "prepare":
            work = None
            resident = Resident()
            work = prepare(**question)
        elif do == "memory":
            assert work is not None
            told = peak_mib(work)
        elif do == "resident":
            assert resident is not None
            told = resident.highest_mib()
        else:
            assert work is not None
            started_s = time.perf_counter()
            work()
            told = time.perf_counter() - started_s
        print(json.dumps(told), flush=True)
