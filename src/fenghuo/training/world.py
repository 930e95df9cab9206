"""One run in several processes, as torchrun starts them: what all of them say, and how one of them ends.

A process (a rank) that fails tells its reason and its name, and the others end in silence with its exit code. A rank
that was killed can tell nothing: those that are left find out who it was, and the lowest of them says so.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from fenghuo import ranks
from fenghuo.errors import DivergedError, FenghuoError, RecipeError, StoppedError, ToldError

TIMEOUT_S = 1800.0
"""How long a rank waits for another one: longer than a checkpoint takes to be written."""
ANSWER_S = 5.0
"""How long those that are left wait for a word of one that is gone."""
_CPU = torch.device("cpu")
_COMMON = (StoppedError, DivergedError, KeyboardInterrupt)
_LINES = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


@dataclass(frozen=True, slots=True)
class World:
    """The ranks of a run, and this one's device. What it sends goes over the CPU: numbers, not tensors."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and speaks."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of the ranks. All ranks must call it."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def all_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each name's sum over the ranks that have it, added in the order of the ranks: the same bits everywhere."""
        return add_up(self.gather(dict(values)))

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value. All ranks must call it."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Go on when every rank is here."""
        self.gather(None)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 goes through the block before all others, which find done what is done once."""
        if not self.is_first:
            self.barrier()
        yield
        if self.is_first:
            self.barrier()


ALONE = World()
_worlds = itertools.count()


def add_up(parts: list[dict[str, float]]) -> dict[str, float]:
    """Sums by name."""
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total


def alone(device: str) -> World:
    """A world of one process.

    Args:
        device: auto, cpu or cuda, as in a recipe.

    Raises:
        RecipeError: cuda, and torch sees none.
    """
    return World(device=_device(device))


@contextmanager
def together(device: str) -> Iterator[World]:
    """The world torchrun started this process in, for as long as the context lasts; without torchrun, one alone.

    A rank takes the CUDA card of its number on its machine, where each rank there has one: gradients then go over
    nccl, and everything else over gloo.

    Args:
        device: auto, cpu or cuda, as in a recipe.

    Raises:
        RecipeError: cuda, and torch sees fewer cards than ranks.
        ToldError: in place of an error that another rank tells.
        FenghuoError: another rank is gone.
    """
    mine = _device(device)
    if ranks.size() == 1:
        yield World(device=mine)
        return
    timeout = timedelta(seconds=TIMEOUT_S)
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    # The launcher's store outlives a process, and a process may make several runs: each has words of its own.
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"fenghuo/{life}/{next(_worlds)}", store)
    backend = "gloo" if mine.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    words = _LastWords(store, rank, size)
    try:
        yield World(rank, size, mine)
    except (Exception, KeyboardInterrupt) as error:
        with _deaf():
            told = words.about(error)
        raise told from error
    dist.destroy_process_group()


def _device(wanted: str) -> torch.device:
    cards, needed = 0 if wanted == "cpu" else torch.cuda.device_count(), ranks.local_size()
    if cards < needed:
        if wanted == "cuda":
            raise RecipeError(
                f"train.device: cuda, but torch sees {cards} CUDA cards for {needed} process(es); give cpu or auto"
            )
        return _CPU
    number = ranks.local()
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


class _LastWords:
    """What ranks leave in the launcher's store when they end. It outlives any of them."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        store.set(f"name/{rank}", ranks.name())

    def about(self, error: BaseException) -> BaseException:
        """What this rank has to raise in place of `error`."""
        try:
            return self._of_a_lost_line(error) if _is_of_a_line(error) else self._of_its_own(error)
        except (RuntimeError, ValueError):  # the store is gone too, with the process that held it
            lost = f"the ranks lost one another ({_first_line(error)}); {_GO_ON}"
            return FenghuoError(lost) if _is_of_a_line(error) else error

    def _of_its_own(self, error: BaseException) -> BaseException:
        code = error.exit_code if isinstance(error, FenghuoError) else 1
        if isinstance(error, KeyboardInterrupt):
            code = StoppedError.exit_code
        if isinstance(error, _COMMON) and self.rank and not self.store.check(["told"]):
            return ToldError(code)  # all ranks raise it at the same step, and rank 0 tells
        mine = json.dumps({"rank": self.rank, "exit_code": code})
        told = self.store.compare_set("told", "", mine).decode()
        return error if told == mine else ToldError(json.loads(told)["exit_code"])

    def _of_a_lost_line(self, error: BaseException) -> BaseException:
        self.store.set(f"left/{self.rank}", "")
        others = [rank for rank in range(self.size) if rank != self.rank]
        until_s = time.monotonic() + ANSWER_S
        while time.monotonic() < until_s:
            if self.store.check(["told"]):
                return ToldError(json.loads(self.store.get("told"))["exit_code"])
            time.sleep(0.05)
        silent = [rank for rank in others if not self.store.check([f"left/{rank}"])]
        if any(rank < self.rank for rank in others if rank not in silent):
            return ToldError(1)
        if not silent:
            return FenghuoError(f"the ranks lost one another ({_first_line(error)}); {_GO_ON}")
        names = "; ".join(self.store.get(f"name/{rank}").decode() for rank in silent)
        return FenghuoError(f"{names}: died, or answers no more; {_GO_ON}")


_GO_ON = "the same command goes on from the last checkpoint, with as many ranks as you like"


def _is_of_a_line(error: BaseException) -> bool:
    """Whether a collective failed because of another rank. torch says it in words of the backend alone."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _LINES)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def _deaf() -> Iterator[None]:
    """Let no signal cut off the last word: the launcher sends one to all ranks when one of them ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
