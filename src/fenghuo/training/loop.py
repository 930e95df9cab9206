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
    scale: float | None = None
    """What the loss was multiplied with, under fp16."""
    skipped: bool = False
    """The gradient overflowed in fp16, so the weights stayed."""


def to_tensors(batch: Arrays, device: torch.device) -> dict[str, Tensor]:
    """Arrays to tensors on `device`, without a copy where the device is the CPU."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in batch.items()}


def seed_step(seed: int, step: int) -> None:
    """Make dropout a function of (seed, step) alone, so that a resumed run draws what an unbroken one draws."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1))


HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bf16 or fp16, or nothing for fp32."""
    half = HALVES.get(precision)
    return torch.autocast(device.type, dtype=half) if half else nullcontext()


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps small gradients above fp16's smallest number: 65,536, halved at an overflow, doubled after 2,000
    steps without one (torch's own numbers; NEZHA begins at 2^32 and doubles after 1,000). None but for fp16."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def steps(
    model: nn.Module,
    batches: Iterator[tuple[Any, Sequence[Arrays]]],
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    rate_of: Callable[[int], float],
    *,
    start: int,
    seed: int,
    clip: float | None,
    precision: str = "fp32",
    scaler: torch.amp.GradScaler | None = None,
) -> Iterator[Step]:
    """Train, and yield after each optimizer step.

    Args:
        batches: (cursor after the batch, its micro-batches).
        rate_of: step number → learning rate.
        start: steps already taken.
        clip: largest global gradient norm, in units of the loss as it is, scaled or not; None: no bound.
        scaler: see `loss_scaler`.

    The loss of a step is Σ over terms of (sum over all micro-batches) / (number asked in all micro-batches): a mean
    over what was asked, not a mean of the micro-batches' means.

    A gradient that overflows in fp16 costs its step: the weights and the optimizer's moments stay, the batch is spent,
    the number and with it the schedule go on (NEZHA's and NVIDIA's counters stand still instead), so that a run's
    length is known.

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
        figures = _accumulate(micro_batches, learner, counts, device, precision, scaler)
        scale = None if scaler is None else scaler.get_scale()
        asked = any(weight.grad is not None for weight in model.parameters())
        if scaler is not None and asked:
            scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf if clip is None else clip).item()
        skipped = scale is not None and scale > 1 and not math.isfinite(norm)
        if not math.isfinite(figures["loss"]) or not (math.isfinite(norm) or skipped):
            raise DivergedError(
                f"step {number}: loss {figures['loss']}, gradient norm {norm}; batch {cursor}. "
                "Start anew in another folder with a lower learning rate, or with optimizer.clip below what it is."
            )
        rate = rate_of(number)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if not skipped:  # the scaler's own `step` would ask the device once more
            optimizer.step()
        if scaler is not None and asked:
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        pieces = sum(len(batch["pieces"]) for batch in micro_batches)
        spent_s = time.perf_counter() - began_s
        yield Step(number, cursor, figures, norm, rate, pieces, spent_s, scale, skipped)


def _accumulate(
    micro_batches: Sequence[Arrays],
    learner: Learner,
    counts: Mapping[str, float],
    device: torch.device,
    precision: str,
    scaler: torch.amp.GradScaler | None,
) -> dict[str, float]:
    """Backward over every micro-batch; the global means of all terms."""
    sums: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        # In float64, and on the device: a number asked for here would make it wait in every micro-batch.
        value = value.detach().double()
        sums[name] = sums[name] + value if name in sums else value

    for batch in micro_batches:
        with autocast(precision, device):
            terms = learner.terms(to_tensors(batch, device))
        parts = {name: total / max(counts[name], 1) for name, total in terms.loss.items()}
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        if loss.requires_grad:  # a micro-batch that asks nothing has nothing to give back
            (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        for name, part in {**parts, "loss": loss}.items():
            add(name, part)
        for name, total in terms.seen.items():
            add(name, total.double() / max(counts[name], 1))
    return dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))
