"""One generator: batches in, optimizer steps out.

It logs nothing, saves nothing and decides no end; whoever reads it does that, in plain sight.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fenghuo.errors import DivergedError

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What one micro-batch adds up to: sums over as many things as `Learner.counts` says under the same name."""

    loss: Mapping[str, Tensor]
    """Scalars with a gradient; already weighted."""
    seen: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars to report only, such as right answers."""


class Learner(Protocol):
    """Turns a batch into sums to bring down."""

    def counts(self, batch: Arrays) -> Mapping[str, float]:
        """Number of asked things of each term, known before the model runs."""
        ...

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Sums over the asked things of this micro-batch."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step that was taken."""

    number: int
    cursor: Any
    """Where the loader goes on."""
    figures: Mapping[str, float]
    """`loss`, each term's mean and each seen mean, over the global batch."""
    grad_norm: float
    rate: float
    pieces: int
    spent_s: float


def to_tensors(batch: Arrays, device: torch.device) -> dict[str, Tensor]:
    """Arrays to tensors on `device`, without a copy where the device is the CPU."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in batch.items()}


def seed_step(seed: int, step: int) -> None:
    """Make dropout a function of (seed, step) alone, so that a resumed run draws what an unbroken one draws."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast, or nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def steps(
    model: nn.Module,
    batches: Iterator[tuple[Any, Sequence[Arrays]]],
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    rate_of: Callable[[int], float],
    *,
    start: int,
    seed: int,
    clip: float,
    precision: str = "fp32",
) -> Iterator[Step]:
    """Train, and yield after each optimizer step.

    Args:
        batches: (cursor after the batch, its micro-batches).
        rate_of: step number → learning rate.
        start: steps already taken.
        clip: largest global gradient norm.

    The loss of a step is Σ over terms of (sum over all micro-batches) / (number asked in all micro-batches): a mean
    over what was asked, not a mean of the micro-batches' means.

    Raises:
        DivergedError: the loss or a gradient is not a finite number; the weights are those before the step.
    """
    device = next(model.parameters()).device
    for number, (cursor, micro_batches) in enumerate(batches, start=start + 1):
        began_s = time.perf_counter()
        model.train()
        seed_step(seed, number)
        counts: dict[str, float] = defaultdict(float)
        for batch in micro_batches:
            for name, count in learner.counts(batch).items():
                counts[name] += count
        figures = _accumulate(micro_batches, learner, counts, device, precision)
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip).item()
        if not math.isfinite(norm) or not math.isfinite(figures["loss"]):
            raise DivergedError(
                f"step {number}: loss {figures['loss']}, gradient norm {norm}; batch {cursor}. "
                "Start anew in another folder with a lower learning rate, or with optimizer.clip below what it is."
            )
        rate = rate_of(number)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        pieces = sum(len(batch["pieces"]) for batch in micro_batches)
        yield Step(number, cursor, figures, norm, rate, pieces, time.perf_counter() - began_s)


def _accumulate(
    micro_batches: Sequence[Arrays],
    learner: Learner,
    counts: Mapping[str, float],
    device: torch.device,
    precision: str,
) -> dict[str, float]:
    """Backward over every micro-batch; the global means of all terms."""
    means: dict[str, float] = defaultdict(float)
    for batch in micro_batches:
        with autocast(precision, device):
            terms = learner.terms(to_tensors(batch, device))
        parts = {name: total / max(counts[name], 1) for name, total in terms.loss.items()}
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        if loss.requires_grad:  # a micro-batch that asks nothing has nothing to give back
            loss.backward()  # type: ignore[no-untyped-call]
        for name, part in parts.items():
            means[name] += part.item()
        means["loss"] += loss.item()
        for name, total in terms.seen.items():
            means[name] += total.item() / max(counts[name], 1)
    return dict(means)
