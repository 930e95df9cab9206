"""Attention on the CPU in pieces that stay in the cache, with dropout on its weights and NEZHA's distances.

Fused kernels know neither: with dropout, torch falls back to writing every (L, L) square several times to memory;
and NEZHA's second product with the weights needs them in the open. Here a few heads' squares are made, used and
left, and made again in the backward pass where keeping them would cost too much memory.
"""

# Shapes: n sequences, H heads, L length, N head width, R clip; of a chunk: c = sequences * heads, b query rows.
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fenghuo.net.chunks import Plan

# Scores of a call up to which the weights are kept for the backward pass: 256 MiB. At L = 512 making them again costs
# NEZHA a twelfth of a training step at base size and a tenth at 4 layers of 312; keeping them, a tenth to a third of
# what the process holds (docs/results/2026-11-22-pretraining-speed.md).
_KEPT = 1 << 26


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
        scales: tuple[float, float],
        want_scores: bool,
    ) -> tuple[Tensor, Tensor | None]:
        length = q.shape[2]
        square = (*q.shape[:3], length)
        out, scores = _like(q), q.new_empty(square) if want_scores else None
        keeps = any(ctx.needs_input_grad[:3]) and math.prod(square) <= _KEPT
        weights: list[Tensor] = []
        plan = Plan(q, table, scales)
        for part in plan.chunks(k, v):
            for here in plan.blocks(part):
                asked = q[here]
                space = plan.buffer("score", *asked.shape[:3], length)
                score = plan.keys.scores(plan.copy("query", asked), here[2], space.flatten(0, 1))
                if scores is not None:
                    scores[here] = space
                if bias is not None:
                    space += bias[here[0], :, here[2]]
                weight = score.softmax(-1) if keeps else torch.softmax(score, -1, out=score)
                if keeps:
                    weights.append(weight)
                if keep is not None:
                    torch.mul(weight.view_as(space), keep[here], out=space)
                    weight = score
                heard = plan.buffer("heard", *asked.shape)
                plan.values.values(weight, here[2], heard.flatten(0, 1))
                out[here] = heard
        ctx.save_for_backward(q, k, v, table, bias, keep, out, *weights)
        ctx.scales = scales
        ctx.set_materialize_grads(False)
        return out, scores

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_scores: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, table, bias, keep, out, *weights = ctx.saved_tensors
        length = q.shape[2]
        grad_q, grad_k, grad_v = _like(q), _like(k), _like(v)
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out
        # The softmax's mean gradient of a row, from its output: Dao et al. 2022, arXiv 2205.14135, appendix B.2.
        mean = (grad_out * out).sum(-1, keepdim=True)
        plan = Plan(q, table, ctx.scales)
        for part in plan.chunks(k, v):
            sums = [
                plan.buffer(name, *k[part].shape).zero_() for name in ("key gradients", "value gradients")
            ]
            to_k, to_v = (x.flatten(0, 1) for x in sums)
            for here in plan.blocks(part):
                asked, back = plan.copy("query", q[here]), plan.copy("gradients", grad_out[here])
                square = (*q[here].shape[:3], length)
                if weights:
                    weight = weights.pop(0)
                else:
                    space = plan.buffer("score", *square)
                    weight = plan.keys.scores(asked, here[2], space.flatten(0, 1))
                    if bias is not None:
                        space += bias[here[0], :, here[2]]
                    torch.softmax(weight, -1, out=weight)
                kept = weight
                if keep is not None:
                    space = plan.buffer("kept", *square)
                    kept = torch.mul(weight.view_as(space), keep[here], out=space).flatten(0, 1)
                to_v.baddbmm_(kept.mT, back, alpha=ctx.scales[1])
                space = plan.buffer("score gradients", *square)
                grad = plan.values.scores(back, here[2], space.flatten(0, 1)).mul_(kept)
                grad.addcmul_(weight, mean[here].flatten(0, 1), value=-1)
                if grad_scores is not None:
                    space += grad_scores[here]
                to_k.baddbmm_(grad.mT, asked, alpha=ctx.scales[0])
                heard = plan.buffer("heard", *q[here].shape)
                plan.keys.values(grad, here[2], heard.flatten(0, 1))
                grad_q[here] = heard
            grad_k[part], grad_v[part] = sums
        return grad_q, grad_k, grad_v, *(None,) * 5


def _like(x: Tensor) -> Tensor:
    """An empty (n, H, L, N) that lies in memory as (n, L, H, N): what follows reads it so without a copy."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2)


def chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    table: Tensor | None = None,
    bias: Tensor | None = None,
    keep: Tensor | None = None,
    keep_scale: float = 1.0,
    want_scores: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention over sequences of equal length.

    Args:
        q, k, v: (n, H, L, N), laid out in any way.
        scale: of the scores: 1 / sqrt(N).
        table: (2R + 1, N) NEZHA's distances; None: attention knows no distance.
        bias: (1 or n, 1, 1 or L, L) added before the softmax, -inf to hide; a row must keep one key.
        keep: (n, H, L, L) uint8, which weights stay (see dropout.py); None: all.
        keep_scale: what the kept weights are multiplied with.
        want_scores: return the scores too, without the bias.

    Returns:
        ((n, H, L, N), (n, H, L, L) scores or None); both carry gradients to q, k and v.
    """
    if bias is not None:
        bias = bias.expand(q.shape[0], -1, q.shape[2], -1)
    given = (q, k, v, table, bias, keep, (scale, keep_scale), want_scores)
    out, scores = _Chunked.apply(*given)  # type: ignore[no-untyped-call]
    return out, scores
