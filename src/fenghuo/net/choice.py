"""Which of many words? The negative log-likelihood of a choice among V, in one piece of memory of M * V numbers."""

# Shapes: M asked rows, E width of the words' vectors, V words.
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_TOGETHER = 1 << 19  # logits that are passed over several times: 2 MiB, which stay in the cache


def choice(x_ME: Tensor, words_VE: Tensor, bias_V: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
    """How unlikely the right word is, and whether it is the first choice.

    Args:
        x_ME: (M, E) what is compared with each word's vector.
        words_VE, bias_V: (V, E) and (V,); a row's logits are `words_VE @ x + bias_V`.
        target_M: (M,) the right words, ids below V.

    Returns:
        ((M,) negative log-likelihoods in nats, in float32 or better; (M,) bool, the right word's logit is the highest,
        and the first of equal ones).

    Raises:
        ValueError: shapes that do not fit.
    """
    if x_ME.dim() != 2 or target_M.shape != x_ME.shape[:1]:
        raise ValueError(f"targets are {tuple(target_M.shape)} for hidden {tuple(x_ME.shape)}")
    if x_ME.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        nll_M, right_M = _Choice.apply(x_ME, words_VE, bias_V, target_M)  # type: ignore[no-untyped-call]
        return nll_M, right_M
    logits_MV = F.linear(x_ME, words_VE, bias_V)
    wide_MV = logits_MV.to(torch.promote_types(logits_MV.dtype, torch.float32))
    return F.cross_entropy(wide_MV, target_M, reduction="none"), logits_MV.argmax(-1) == target_M


class _Choice(torch.autograd.Function):
    """Logits become probabilities where they lie, and these the gradient: torch's own way makes four such arrays, and
    what it costs is fresh memory."""

    @staticmethod
    def forward(
        ctx: Any, x_ME: Tensor, words_VE: Tensor, bias_V: Tensor, target_M: Tensor
    ) -> tuple[Tensor, Tensor]:
        grad_MV = x_ME @ words_VE.T
        rows = max(1, _TOGETHER // max(1, len(bias_V)))
        parts = zip(*(torch.split(x, rows) for x in (grad_MV, target_M[:, None])), strict=True)
        judged = [_judge(logits_mV, bias_V, target_m1) for logits_mV, target_m1 in parts]
        nll_M, right_M = (torch.cat(part) for part in zip(*judged, strict=True))
        ctx.save_for_backward(x_ME, words_VE, grad_MV)
        ctx.mark_non_differentiable(right_M)
        ctx.set_materialize_grads(False)
        return nll_M, right_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back_M: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if back_M is None:
            return None, None, None, None
        x_ME, words_VE, grad_MV = ctx.saved_tensors
        need_x, need_words, need_bias, _ = ctx.needs_input_grad
        back_M1 = back_M[:, None]
        return (
            (grad_MV @ words_VE).mul_(back_M1) if need_x else None,
            grad_MV.T @ (x_ME * back_M1) if need_words else None,
            grad_MV.T @ back_M if need_bias else None,
            None,
        )


def _judge(logits_mV: Tensor, bias_V: Tensor, target_m1: Tensor) -> tuple[Tensor, Tensor]:
    """((m,), (m,)) as `choice`; the logits, without bias, become the gradient of the first in themselves."""
    logits_mV += bias_V
    of_target_m1 = logits_mV.gather(1, target_m1)
    highest_m1 = logits_mV.amax(1, keepdim=True)
    right_m = (of_target_m1 == highest_m1).squeeze(1)
    if len(
        first := right_m.nonzero().squeeze(1)
    ):  # of equal ones the first is chosen; few rows are looked at again
        right_m[first] = logits_mV[first].argmax(1) == target_m1[first, 0]
    torch.softmax(logits_mV, 1, out=logits_mV)
    # The log-sum is taken from the highest: the target's own probability may be 0 in float32.
    nll_m1 = highest_m1 - of_target_m1 - logits_mV.amax(1, keepdim=True).log()
    logits_mV.scatter_(1, target_m1, logits_mV.gather(1, target_m1) - 1)
    return nll_m1.squeeze(1), right_m
