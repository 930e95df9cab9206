"""What the ranks of one torchrun launch tell each other about their run folder."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal

from fenghuo.errors import RunError
from fenghuo.rundir.lock import read_note

if TYPE_CHECKING:
    from pathlib import Path

State = Literal["new", "resume", "finished"]
WAIT_FOR_RANK_0_S = 120.0


def launch() -> str:
    """A name that all ranks of one torchrun launch share, and no other launch does."""
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")
    # The static rendezvous uses the same id and port each time; on one machine the launcher's process tells.
    alone = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    return ":".join([*(os.environ.get(name, "") for name in names), str(os.getppid()) if alone else ""])


def state_of_rank_0(out: Path) -> State:
    """What rank 0 found in `out` when it opened the run. Raises RunError where it does not say."""
    deadline_s = time.monotonic() + WAIT_FOR_RANK_0_S
    while time.monotonic() < deadline_s:
        note = read_note(out)
        if note.get("launch") == launch() and note.get("state") in ("new", "resume", "finished"):
            state: State = note["state"]
            return state
        time.sleep(0.05)
    raise RunError(
        f"{out}: rank 0 did not open this run within {WAIT_FOR_RANK_0_S:.0f} s; all ranks need the same disk"
    )
