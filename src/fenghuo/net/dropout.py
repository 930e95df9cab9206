"""Dropout whose random bits are cheap on the CPU."""

# Shapes are free here.
from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_STEPS = 1 << 16  # a share is kept to 1/65536: 0.1 becomes 0.10001, and the scale below follows it exactly


def keep_mask(shape: tuple[int, ...], rate: float, device: torch.device) -> tuple[Tensor, float]:
    """Which numbers stay, and what they are multiplied with so that the mean stays.

    On the CPU one draw from torch's generator seeds numpy's SFC64, and 16 of its bits decide a number: the
    stream follows from `torch.manual_seed` (and from a restored generator state) alone, not from the number of
    threads; with it dropout takes a half to a quarter of torch's time (docs/decisions/0004-dropout.md).

    Returns:
        (uint8 mask of that shape, scale = 1 / share kept).
    """
    if device.type != "cpu":
        return (torch.rand(shape, device=device) >= rate).view(torch.uint8), 1.0 / (1.0 - rate)
    dropped = round(rate * _STEPS)
    count = math.prod(shape)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    bits = np.random.SFC64(seed).random_raw((count + 3) // 4).view(np.uint16)[:count]
    keep = torch.from_numpy((bits >= dropped).view(np.uint8))
    return keep.view(shape), _STEPS / (_STEPS - dropped)


class Dropout(nn.Module):
    """`nn.Dropout`, several times faster on the CPU; the identity in evaluation mode."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def extra_repr(self) -> str:
        return f"rate={self.rate}"

    def forward(self, x: Tensor) -> Tensor:
        """Some of `x` becomes 0, the rest is scaled."""
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        keep, scale = keep_mask(tuple(x.shape), self.rate, x.device)
        dropped: Tensor = _Drop.apply(x, keep, scale)  # type: ignore[no-untyped-call]
        return dropped

    def added(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + dropout(x), in one pass over memory."""
        if not self.training or self.rate == 0 or x.device.type != "cpu":
            dropped: Tensor = self(x)
            return residual + dropped
        keep, scale = keep_mask(tuple(x.shape), self.rate, x.device)
        total: Tensor = _AddDropped.apply(residual, x, keep, scale)  # type: ignore[no-untyped-call]
        return total


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad * ctx.saved_tensors[0]).mul_(ctx.scale), None, None


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale, ctx.dtype = scale, x.dtype
        return torch.addcmul(residual, x.to(residual.dtype), keep, value=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return grad, (grad * ctx.saved_tensors[0]).mul_(ctx.scale).to(ctx.dtype), None, None
