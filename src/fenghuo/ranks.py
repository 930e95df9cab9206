"""Which of the processes of one run this is, as torchrun says by environment variables.

It stands on floor 0 because what writes and what speaks must know it before torch is there.
"""

from __future__ import annotations

import os
import socket


def rank() -> int:
    """This process's number; 0 where there is one process."""
    return _number("RANK", 0)


def local() -> int:
    """This process's number on its machine."""
    return _number("LOCAL_RANK", 0)


def local_size() -> int:
    """How many processes of the run are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def size() -> int:
    """How many processes the run has, on all machines."""
    return _number("WORLD_SIZE", 1)


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def name() -> str:
    """What to call this process before people, such as `rank 3 of 4, host alpha, pid 4711`."""
    return f"rank {rank()} of {size()}, host {socket.gethostname()}, pid {os.getpid()}"


def _number(variable: str, otherwise: int) -> int:
    given = os.environ.get(variable, "")
    return int(given) if given.isdigit() else otherwise
