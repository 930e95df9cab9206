"""How much work a training step is, and how fast this device could do it at best."""

# Shapes: T pieces, M asked rows, D width, E width of the words' vectors, F inner width, V vocabulary.
from __future__ import annotations

import time

import torch

from fenghuo.net.config import EncoderConfig

_ROWS = 2048
_TOGETHER = 3  # products of each size, one after another


def training_flops(config: EncoderConfig, *, pieces: float, squares: float, asked: float) -> float:
    """Floating point operations that a step has to do:

        6 T N (4 D^2 + 2 D F) + 12 N D (sum of squared lengths) + 6 M (D E + E V), and 6 T D E where E is not D

    Maps of N layers, attention without distances, the head on asked rows, the map that widens the words; a product of
    m x k by k x n counts 2 m k n, and the backward pass twice the forward pass. Norms, dropout, the optimizer,
    distances and everything that is done twice count nothing.

    Args:
        pieces: T, padding not counted.
        squares: Σ over sequences of their length squared; half of it where pieces hear only what stands before them.
        asked: M, rows that are compared with all V words. Of an adaptive softmax this is more than has to be done.
    """
    layers, narrow, wide, words = config.layers, config.width, config.inner_width, config.embed_width
    maps = 6 * pieces * layers * (4 * narrow**2 + 2 * narrow * wide)
    attention = 12 * layers * narrow * squares
    head = 6 * asked * words * (narrow + config.vocab)
    return maps + attention + head + (6 * pieces * narrow * words if words != narrow else 0.0)


class MatrixPeak:
    """The best rate of matrix products of a model's sizes, on one device.

    Args:
        rows: of the products' left sides; a batch's pieces.
        dtype: what the run's products are in.
    """

    def __init__(
        self,
        config: EncoderConfig,
        rows: int = _ROWS,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        device = device or torch.device("cpu")
        narrow, wide = config.width, config.inner_width
        chance = torch.Generator(device).manual_seed(0)  # torch's own is left as it is

        def drawn(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=chance, device=device).to(dtype)

        self._pairs = [
            (drawn(rows, a), drawn(a, b)) for a, b in ((narrow, narrow), (narrow, wide), (wide, narrow))
        ]
        self._device = device
        self.flops_per_s = 0.0
        """The best so far."""
        self._flops = self._spent_s = 0.0

    def measure(self) -> None:
        """A few products of each size, in milliseconds."""
        for left, right in self._pairs * _TOGETHER:
            self._wait()
            began_s = time.perf_counter()
            left @ right
            self._wait()
            spent_s = time.perf_counter() - began_s
            flops = 2 * left.shape[0] * right.numel()
            self.flops_per_s = max(self.flops_per_s, flops / spent_s)
            self._flops, self._spent_s = self._flops + flops, self._spent_s + spent_s

    @property
    def mean_per_s(self) -> float:
        """Of all products so far: what a step of nothing but products would have reached in their place."""
        return self._flops / self._spent_s

    def measure_for(self, seconds: float) -> float:
        """`measure` again and again; the best rate in floating point operations a second."""
        ends_s = time.perf_counter() + seconds
        while True:
            self.measure()
            if time.perf_counter() >= ends_s:
                return self.flops_per_s

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
