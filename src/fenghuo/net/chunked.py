"""Attention on the CPU in pieces that stay in the cache, with dropout on its weights and NEZHA's distances.

Fused kernels know neither: with dropout, torch falls back to writing every (L, L) square several times to memory;
and NEZHA's second product with the weights needs them in the open. Here a few heads' squares are made, used and
left, and made again in the backward pass where keeping them would cost too much memory.
"""

# Shapes: G = sequences * heads, c of them in a chunk, L length, b query rows of a chunk, N head width, R clip,
# W = L + b - 1 distances that a block of rows meets.
from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Measured in docs/decisions/0003-nezha-attention.md.
_ROWS = 128  # query rows of a chunk
_CHUNK = 1 << 17  # scores in a chunk: half a MiB, so that a few such squares stay in the second-level cache
_KEPT = 1 << 22  # scores of a call up to which the weights are kept for the backward pass: 16 MiB


@dataclass(frozen=True, slots=True)
class _Rows:
    """A block of query rows, the same in each group."""

    start: int
    count: int
    shift: _Shift | None

    @property
    def slice(self) -> slice:
        return slice(self.start, self.start + self.count)


class _Shift:
    """NEZHA's terms for a block of query rows.

    A row's terms are made by distance, one after another, and read by key: in row i key j stands at distance
    j - i, so each row begins one step to the left of the one above. That is a view with a row stride of W - 1.
    """

    def __init__(self, table: Tensor, length: int, start: int, count: int, groups: int) -> None:
        clip = table.shape[0] // 2
        self.length, self.count, self.width = length, count, length + count - 1
        zero = count - 1 + start  # the column of distance 0
        self.low, self.high = max(zero - clip, 0), min(zero + clip + 1, self.width)
        self.table = table[self.low - zero + clip : self.high - zero + clip]
        self.terms = table.new_empty(groups, count, self.width)
        self.spread = table.new_zeros(groups, count, self.width)  # stays 0 where no key stands

    def _by_key(self, x_cbW: Tensor) -> Tensor:
        strides = (self.count * self.width, self.width - 1, 1)
        return x_cbW.as_strided((x_cbW.shape[0], self.count, self.length), strides, self.count - 1)

    def scores(self, q_cbN: Tensor) -> Tensor:
        """(c, b, N) → (c, b, L): each query times the table's row of each key's distance."""
        terms = self.terms[: q_cbN.shape[0]]
        flat = terms.view(-1, self.width)
        torch.mm(q_cbN.reshape(-1, q_cbN.shape[2]), self.table.T, out=flat[:, self.low : self.high])
        if self.low:
            flat[:, : self.low] = flat[:, self.low, None]
        if self.high < self.width:
            flat[:, self.high :] = flat[:, self.high - 1, None]
        return self._by_key(terms)

    def values(self, weight_cbL: Tensor) -> Tensor:
        """(c, b, L) → (c, b, N): the table's rows, weighted. The transpose of `scores`."""
        spread = self.spread[: weight_cbL.shape[0]]
        self._by_key(spread).copy_(weight_cbL)
        flat = spread.view(-1, self.width)
        if self.low:
            flat[:, self.low] += flat[:, : self.low].sum(1)
        if self.high < self.width:
            flat[:, self.high - 1] += flat[:, self.high :].sum(1)
        return (flat[:, self.low : self.high] @ self.table).view(*weight_cbL.shape[:2], -1)


class _Plan:
    """How (G, L) is cut: groups in slices, rows in blocks."""

    def __init__(self, groups: int, length: int, table: Tensor | None) -> None:
        blocks = math.ceil(length / _ROWS)
        edges = [length * i // blocks for i in range(blocks + 1)]
        most = max(b - a for a, b in pairwise(edges))
        step = max(1, min(groups, _CHUNK // (most * length)))
        self.slices = [slice(g, min(g + step, groups)) for g in range(0, groups, step)]
        self.rows = [
            _Rows(a, b - a, None if table is None else _Shift(table, length, a, b - a, step))
            for a, b in pairwise(edges)
        ]


def _scores(q: Tensor, k: Tensor, rows: _Rows) -> Tensor:
    """(c, b, L) of one chunk."""
    if rows.shift is None:
        return torch.bmm(q, k.mT)
    return torch.baddbmm(rows.shift.scores(q), q, k.mT)


class _Chunked(torch.autograd.Function):
    """Weights are kept for the backward pass, or made again there, by the number of scores."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        table: Tensor | None,
        bias: Tensor | None,
        keep: Tensor | None,
        scale: float,
        want_scores: bool,
    ) -> tuple[Tensor, Tensor | None]:
        groups, length, _ = q.shape
        out = torch.empty_like(v)
        square = (groups, length, length)
        scores = q.new_empty(square) if want_scores else None
        training = any(ctx.needs_input_grad[:3])
        weights = q.new_empty(square) if training and groups * length**2 <= _KEPT else None
        plan = _Plan(groups, length, table)
        for g in plan.slices:
            for rows in plan.rows:
                r = rows.slice
                score = _scores(q[g, r], k[g], rows)
                if scores is not None:
                    scores[g, r] = score
                weight = (score if bias is None else score + bias[g, r]).softmax(-1)
                if weights is not None:
                    weights[g, r] = weight
                if keep is not None:
                    weight.mul_(keep[g, r])
                heard = torch.bmm(weight, v[g])
                if rows.shift is not None:
                    heard += rows.shift.values(weight)
                torch.mul(heard, scale, out=out[g, r])
        ctx.save_for_backward(q, k, v, table, bias, keep, weights, out)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        return out, scores

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_scores: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, table, bias, keep, weights, out = ctx.saved_tensors
        groups, length, _ = q.shape
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out
        # The softmax's mean gradient of a row, from its output: Dao et al. 2022, arXiv 2205.14135, appendix B.2.
        mean = (grad_out * out).sum(-1, keepdim=True)
        grad_out = grad_out * ctx.scale
        plan = _Plan(groups, length, table)
        for g in plan.slices:
            for rows in plan.rows:
                r = rows.slice
                if weights is not None:
                    weight = weights[g, r]
                else:
                    score = _scores(q[g, r], k[g], rows)
                    weight = (score if bias is None else score.add_(bias[g, r])).softmax(-1)
                kept = weight if keep is None else weight * keep[g, r]
                grad_v[g].baddbmm_(kept.mT, grad_out[g, r])
                grad = _scores(grad_out[g, r], v[g], rows).mul_(kept)
                grad.addcmul_(weight, mean[g, r], value=-1)
                if grad_scores is not None:
                    grad += grad_scores[g, r]
                torch.bmm(grad, k[g], out=grad_q[g, r])
                if rows.shift is not None:
                    grad_q[g, r] += rows.shift.values(grad)
                grad_k[g].baddbmm_(grad.mT, q[g, r])
        return grad_q, grad_k, grad_v, None, None, None, None, None


def chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    table: Tensor | None = None,
    bias: Tensor | None = None,
    keep: Tensor | None = None,
    scale: float = 1.0,
    want_scores: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention over groups of equal length.

    Args:
        q, k, v: (G, L, N); the queries are scaled already.
        table: (2R + 1, N) NEZHA's distances; None: attention knows no distance.
        bias: (G, 1 or L, L) added before the softmax, -inf to hide; a row must keep one key.
        keep: (G, L, L) uint8, which weights stay (see dropout.py); None: all.
        scale: what the kept weights are multiplied with.
        want_scores: return the scores too, without the bias.

    Returns:
        ((G, L, N), (G, L, L) scores or None); both carry gradients to q, k and v.
    """
    if bias is not None and bias.shape[1] == 1:
        bias = bias.expand(-1, q.shape[1], -1)
    out, scores = _Chunked.apply(q, k, v, table, bias, keep, scale, want_scores)  # type: ignore[no-untyped-call]
    return out, scores
