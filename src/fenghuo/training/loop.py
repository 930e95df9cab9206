"""One generator: batches in, optimizer steps out.

It logs nothing, saves nothing and decides no end; whoever reads it does that, in plain sight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fenghuo.errors import DivergedError
from fenghuo.training.parallel import Asking, whole
from fenghuo.training.terms import Arrays as Arrays
from fenghuo.training.terms import Learner as Learner
from fenghuo.training.terms import Terms as Terms
from fenghuo.training.watch import no_number
from fenghuo.training.world import ALONE, World


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step that was taken."""

    number: int
    cursor: Any
    """Where the loader goes on."""
    figures: Mapping[str, float]
    """`loss`, each term's mean and each seen mean, over the global batch; of what was asked in it only."""
    grad_norm: float
    rate: float
    pieces: int
    """Of all ranks."""
    spent_s: float
    scale: float | None = None
    """What the loss was multiplied with, under fp16."""
    skipped: bool = False
    """The gradient overflowed in fp16, so the weights stayed."""
    stop: bool = False
    """Whether any rank was asked to end, which all of them know by now."""


def to_tensors(batch: Arrays, device: torch.device) -> dict[str, Tensor]:
    """Arrays to tensors on `device`, without a copy where the device is the CPU."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in batch.items()}


class UntakenError(DivergedError):
    """A step that must not be taken, before the weights moved. Who knows the batch says more of it."""

    def __init__(self, number: int, why: str, figures: Mapping[str, float], grad_norm: float) -> None:
        super().__init__(f"step {number}: {why}")
        self.number, self.why, self.figures, self.grad_norm = number, why, dict(figures), grad_norm


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Make dropout a function of (seed, step, rank), so that a resumed run draws what an unbroken one draws.

    Ranks share no mask, and rank 0 draws what a process alone draws.
    """
    key = (seed, step, rank) if rank else (seed, step)
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


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
    world: World = ALONE,
    stop: Callable[[], bool] = lambda: False,
    judge: Callable[[float, float, Iterable[str]], str | None] = no_number,
) -> Iterator[Step]:
    """Train, and yield after each optimizer step.

    Args:
        batches: (cursor after the batch, this rank's micro-batches).
        rate_of: step number → learning rate.
        start: steps already taken.
        clip: largest global gradient norm, in units of the loss as it is, scaled or not; None: no bound.
        scaler: see `loss_scaler`.
        world: the ranks that take this step together.
        stop: whether this rank was asked to end; `Step.stop` says the same on all ranks.
        judge: (loss, gradient norm, names of the figures) → why the step must not be taken, or None. An overflow in
            fp16 is not its business.

    The loss of a step is Σ over terms of (sum over all micro-batches of all ranks) / (number asked in all of them): a
    mean over what was asked, not a mean of the micro-batches' means.

    A gradient that overflows in fp16 costs its step: the weights and the optimizer's moments stay, the batch is spent,
    the number and with it the schedule go on (NEZHA's and NVIDIA's counters stand still instead), so that a run's
    length is known.

    Raises:
        UntakenError: what `judge` said; the weights are those before the step.
    """
    device = next(model.parameters()).device
    asking = Asking(model, learner, world)
    for number, (cursor, micro_batches) in enumerate(batches, start=start + 1):
        began_s = time.perf_counter()
        model.train()
        seed_step(seed, number, world.rank)
        counts, pieces, mine = asking.agree(micro_batches)
        means = _accumulate(mine, asking, counts, device, precision, scaler)
        figures = world.all_sum(means | {"stop": float(stop())})
        stopping = figures.pop("stop") > 0
        figures = {name: value for name, value in figures.items() if counts.get(name) != 0}
        scale = None if scaler is None else scaler.get_scale()
        asked = any(weight.grad is not None for weight in model.parameters())
        if scaler is not None and asked:
            scaler.unscale_(optimizer)
        norm = whole(nn.utils.clip_grad_norm_(model.parameters(), math.inf if clip is None else clip)).item()
        skipped = scale is not None and scale > 1 and not math.isfinite(norm)
        if (why := judge(figures["loss"], 0.0 if skipped else norm, figures)) is not None:
            optimizer.zero_grad(set_to_none=True)
            raise UntakenError(number, why, figures, norm)
        rate = rate_of(number)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if not skipped:  # the scaler's own `step` would ask the device once more
            optimizer.step()
        if scaler is not None and asked:
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        spent_s = time.perf_counter() - began_s
        yield Step(number, cursor, figures, norm, rate, pieces, spent_s, scale, skipped, stopping)


def _accumulate(
    micro_batches: Sequence[tuple[Arrays, float]],
    asking: Asking,
    counts: Mapping[str, float],
    device: torch.device,
    precision: str,
    scaler: torch.amp.GradScaler | None,
) -> dict[str, float]:
    """Backward over every micro-batch; this rank's part of the global means of all terms."""
    sums: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        # In float64, and on the device: a number asked for here would make it wait in every micro-batch.
        value = value.detach().double()
        sums[name] = sums[name] + value if name in sums else value

    for place, (batch, factor) in enumerate(micro_batches, start=1):
        with asking.between(last=place == len(micro_batches)):
            with autocast(precision, device):
                terms = asking.terms(to_tensors(batch, device))
            parts = {name: total / max(counts.get(name, 0), 1) for name, total in terms.loss.items()}
            loss = torch.stack([part.float() for part in parts.values()]).sum()
            if loss.requires_grad:  # a micro-batch that asks nothing has nothing to give back
                loss_here = loss * factor
                (loss_here if scaler is None else scaler.scale(loss_here)).backward()  # type: ignore[no-untyped-call]
        if not factor:  # lent by another rank, which counts it
            continue
        for name, part in {**parts, "loss": loss}.items():
            add(name, part)
        for name, total in terms.seen.items():
            add(name, total.double() / max(counts.get(name, 0), 1))
    return dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True)) if sums else {}
