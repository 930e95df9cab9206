"""How attention is cut into chunks on the CPU, and NEZHA's distances for the rows of one."""

# Shapes: n sequences, H heads, L length, N head width, R clip; of a chunk: c = sequences * heads, b query rows,
# m keys of a block's band.
from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from itertools import pairwise, product

import torch
from torch import Tensor

# Measured in docs/decisions/0003-nezha-attention.md.
_ROWS = 64  # query rows of a chunk
_CHUNK = 1 << 20  # scores in a chunk: 4 MiB, so that a few such squares stay in the last cache


class _Space(threading.local):
    """Memory that every call uses again, tens of MiB a thread: fresh pages cost more than what is done in them."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], Tensor] = {}
        self.windows: tuple[object, Tensor, Tensor] | None = None


_SPACE = _Space()


class Plan:
    """How (n, H, L, ·) is cut: heads in slices, rows in blocks; and the memory that every chunk uses again."""

    def __init__(self, like: Tensor, table: Tensor | None, scales: tuple[float, float]) -> None:
        count, heads, self.length, _ = like.shape
        blocks = math.ceil(self.length / _ROWS)
        edges = pairwise(self.length * i // blocks for i in range(blocks + 1))
        self.rows = [slice(a, b) for a, b in edges]
        most = max(r.stop - r.start for r in self.rows)
        room = max(1, _CHUNK // (most * self.length))
        step = max(1, min(count, room // heads)), min(heads, room)
        starts = product(range(0, count, step[0]), range(0, heads, step[1]))
        self.slices = [(slice(i, i + step[0]), slice(h, h + step[1])) for i, h in starts]
        self.dtype = like.dtype
        windows = None if table is None else _windows(table, most)
        self.keys = Beside(self, "keys", table, windows, scales[0])
        self.values = Beside(self, "values", table, windows, scales[1])

    def chunks(self, k: Tensor, v: Tensor) -> Iterator[tuple[slice, slice]]:
        """The index of each slice of heads; its keys and values are loaded."""
        for part in self.slices:
            self.keys.load(k[part])
            self.values.load(v[part])
            yield part

    def blocks(self, part: tuple[slice, slice]) -> Iterator[tuple[slice, slice, slice]]:
        """The index of each block of rows."""
        return ((*part, rows) for rows in self.rows)

    def buffer(self, name: str, *shape: int) -> Tensor:
        """Of that shape; what it holds is left over."""
        size = math.prod(shape)
        space, key = _SPACE.buffers, (name, self.dtype)
        if key not in space or space[key].numel() < size:
            with torch.inference_mode(False):  # what is made in that mode cannot be written outside of it
                space[key] = torch.empty(size, dtype=self.dtype)
        return space[key][:size].view(shape)

    def copy(self, name: str, x: Tensor) -> Tensor:
        """(n', h', rows, N), laid out in any way → (c, rows, N), one after another."""
        return self.buffer(name, *x.shape).copy_(x).flatten(0, 1)


class Beside:
    """A chunk's keys or values, scaled, and beside them NEZHA's distances, if there are any.

    Keys R or further to the left of every row of a block meet the table's first row alone, those as far to the
    right its last: that is added to the keys themselves. What is left is a band of b + 2R - 2 keys. `windows` has
    for each row its part of the table, so that one product over the rows serves all heads of the chunk. They are
    less the table's first row, which the band's keys carry too: one edge moves from block to block.
    """

    def __init__(
        self, plan: Plan, name: str, table: Tensor | None, windows: Tensor | None, factor: float
    ) -> None:
        self.plan, self.name, self.factor, self.windows = plan, name, factor, windows
        if table is not None:
            self.clip = len(table) // 2
            self.left, self.right = table[0] * factor, table[-1] * factor

    def load(self, x: Tensor) -> None:
        """Go on to this chunk: (n', h', L, N), laid out in any way."""
        self.x, self.held, self.reached = x, self.plan.buffer(self.name, *x.shape), 0
        if self.windows is None:
            torch.mul(x, self.factor, out=self.held)
        else:
            self._hold(slice(self._band(self.plan.rows[0]).stop, None), self.right)

    def _hold(self, keys: slice, far: Tensor) -> None:
        torch.add(far, self.x[:, :, keys], alpha=self.factor, out=self.held[:, :, keys])

    def _band(self, rows: slice) -> slice:
        return slice(max(0, rows.start - self.clip + 1), min(self.plan.length, rows.stop - 1 + self.clip))

    def _at(self, rows: slice) -> Tensor:
        """(c, L, N) as these rows meet it. Blocks come in their order."""
        if self.windows is not None and (stop := self._band(rows).stop) > self.reached:
            self._hold(slice(self.reached, stop), self.left)
            self.reached = stop
        return self.held.flatten(0, 1)

    def _window(self, windows: Tensor, rows: slice, band: slice) -> Tensor:
        first = rows.start - self.clip + 1
        return windows[: rows.stop - rows.start, band.start - first : band.stop - first]

    def scores(self, q_cbN: Tensor, rows: slice, out: Tensor) -> Tensor:
        """(c, b, N) → (c, b, L): products with each key, and with its distance."""
        torch.bmm(q_cbN, self._at(rows).mT, out=out)
        if self.windows is not None:
            band = self._band(rows)
            space = self.plan.buffer("by row", out.shape[1], out.shape[0], band.stop - band.start)
            torch.bmm(q_cbN.transpose(0, 1), self._window(self.windows, rows, band).mT, out=space)
            out[:, :, band].add_(space.transpose(0, 1), alpha=self.factor)
        return out

    def values(self, weight_cbL: Tensor, rows: slice, out: Tensor) -> Tensor:
        """(c, b, L) → (c, b, N): the transpose of `scores`."""
        torch.bmm(weight_cbL, self._at(rows), out=out)
        if self.windows is not None:
            band = self._band(rows)
            space = self.plan.buffer("by row", out.shape[1], out.shape[0], out.shape[2])
            weight = weight_cbL[:, :, band].transpose(0, 1)
            torch.bmm(weight, self._window(self.windows, rows, band), out=space)
            out.add_(space.transpose(0, 1), alpha=self.factor)
        return out


def _windows(table: Tensor, rows: int) -> Tensor:
    """(b, b + 2R - 2, N): for each row of a block the table's entries of the band's keys, less the first entry.

    Layer after layer asks for the same, so the last answer is kept, and its table with it: no other lies there.
    """
    key = (table.data_ptr(), table.shape, table.dtype, rows, None if table.is_inference() else table._version)
    if _SPACE.windows is not None and _SPACE.windows[0] == key:
        return _SPACE.windows[2]
    clip = len(table) // 2
    with torch.inference_mode(False):
        distance = torch.arange(1 - clip, rows - 1 + clip) - torch.arange(rows)[:, None]
        windows = (table - table[0])[distance.clamp(-clip, clip) + clip]
    if not table.is_inference():  # it counts no changes
        _SPACE.windows = key, table, windows
    return windows
