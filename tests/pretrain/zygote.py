"""A process that has imported what pretraining needs, and forks one that begins at once for each line it reads.

A line is JSON: {"argv", "env", "told": file for stderr, "file_bytes"?: largest file, "spoiled"?: {"step", "factor",
"rank"}}, answered with the pid; or {"wait": pid}, answered with the exit code, negative for a signal.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import torch
from tests.pretrain.spoiled import spoil

import fenghuo.cli.stage
import fenghuo.pretrain.evaluate
import fenghuo.pretrain.run  # the point of this process
import fenghuo.training.world
from fenghuo.__main__ import main

with suppress(ImportError):
    import_module("pandas")  # pyarrow looks for it
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)  # imports torch's compiler, which takes longer than a run here


def become(job: dict[str, Any]) -> None:
    """Run the command line of a job in this process, and end."""
    os.environ.update(job["env"])
    handle = os.open(job["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    fenghuo.training.world.ANSWER_S = 0.5
    fenghuo.pretrain.run.PEAK_S = 0.01
    fenghuo.pretrain.evaluate.ASKED_PIECES = 100
    fenghuo.cli.stage._page = lambda run: None  # charts take longer than the run
    if "file_bytes" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], job["file_bytes"]))
    if "spoiled" in job:
        bad = job["spoiled"]
        spoil(bad["step"], {"now": bad["factor"]}, of_rank=bad["rank"])
    sys.argv = ["fenghuo", *job["argv"]]
    os._exit(main())


def serve() -> None:
    """Answer lines until there are no more."""
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        child = os.fork()
        if not child:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            become(job)
        print(child, flush=True)


if __name__ == "__main__":
    serve()
