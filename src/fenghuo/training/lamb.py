"""LAMB (You et al. 2020), in the forms that people train BERT with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from fenghuo.training.parallel import is_cut, local


class Lamb(torch.optim.Optimizer):
    """Layer-wise adaptive moments for large batches (arXiv 1904.00962, algorithm 2).

    Of a gradient g the moments are m ← b1 m + (1 - b1) g and v ← b2 v + (1 - b2) g², and

        u = m̂ / (sqrt(v̂) + epsilon) + weight_decay * w        w ← w - lr * min(|w| / |u|, trust_clip) * u

    with m̂ = m / (1 - b1^t), v̂ = v / (1 - b2^t), or m and v themselves. The ratio is 1 where |w| or |u| is 0, and in
    groups whose `adapt` is false. Who has which form (gradients are clipped to a global norm of 1 before, in each):

    =====================================  ===============  ==========  =========================
    form                                   bias correction  trust clip  adapted
    =====================================  ===============  ==========  =========================
    paper, algorithm 2 as of v5            yes              none        all
    paper as of v3; albert_zh              no               none        all
    Google (albert/lamb_optimizer.py)      no               none        those with weight decay
    NVIDIA (apex FusedLAMB)                yes              none        those with weight decay
    NEZHA (optimization.py)                yes              10          all
    =====================================  ===============  ==========  =========================

    The paper's phi bounds |w| where it bounds anything; here the ratio is bounded, as NEZHA has it. NEZHA's code
    divides by the norm of another vector than the one it applies (epsilon within the root, and decay in it even where
    none is applied); that is not copied.

    The gradients are overwritten with the updates, as in apex, which saves memory. Nothing waits for the device.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        bias_correction: bool = True,
        trust_clip: float | None = 10.0,
        adapt: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "trust_clip": trust_clip,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients that stand in the parameters."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            # Tensors that took another number of steps are corrected by other factors.
            by_number: dict[int, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_number.setdefault(self._count(weight), []).append(weight)
            for number, weights in by_number.items():
                self._move(weights, number, group)
        return loss

    def _count(self, weight: Tensor) -> int:
        state = self.state[weight]
        if not state:
            # On the CPU, whatever the weight's device: reading it waits for nothing.
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        return int(state["step"].item())

    def _move(self, weights: list[Tensor], number: int, group: dict[str, Any]) -> None:
        cut = is_cut(weights[0])
        grads = [local(weight.grad) for weight in weights if weight.grad is not None]
        means = [local(self.state[weight]["exp_avg"]) for weight in weights]
        squares = [local(self.state[weight]["exp_avg_sq"]) for weight in weights]
        weights = [local(weight) for weight in weights]
        _update(grads, means, squares, number, group)
        if group["weight_decay"]:
            torch._foreach_add_(grads, weights, alpha=group["weight_decay"])
        if not group["adapt"]:
            torch._foreach_add_(weights, grads, alpha=-group["lr"])
            return
        norms = torch.stack([torch.stack(torch._foreach_norm(part)) for part in (weights, grads)])
        if cut:  # over the ranks, each of which has a part of every tensor
            torch.distributed.all_reduce(norms.square_())
            norms.sqrt_()
        weight_norms, update_norms = norms
        ratios = weight_norms / update_norms
        if group["trust_clip"] is not None:
            ratios.clamp_(max=group["trust_clip"])
        ratios = torch.where((weight_norms > 0) & (update_norms > 0), ratios, 1.0)
        torch._foreach_addcmul_(weights, grads, list(ratios.unbind()), value=-group["lr"])


def _update(
    grads: list[Tensor], means: list[Tensor], squares: list[Tensor], number: int, group: dict[str, Any]
) -> None:
    """Bring the moments up to date, and put m̂ / (sqrt(v̂) + eps) where the gradient stood.

    torch's fused Adam does both in one pass: the gradient is given as the parameter too, a decay of -1 at a rate of -1
    takes it away (1 - lr * decay = 0), and the quotient is added to what is left. Each number is read before it is
    written, on the CPU and on CUDA. On a CPU this halves the time of the same operations one after another.
    """
    beta1, beta2 = group["betas"]
    # After a billion steps the corrections are 1: the form without them.
    step = torch.full((), float(number if group["bias_correction"] else 1e9), device=grads[0].device)
    torch._fused_adamw_(
        grads,
        grads,
        means,
        squares,
        [],
        [step] * len(grads),
        lr=-1.0,
        beta1=beta1,
        beta2=beta2,
        weight_decay=-1.0,
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )
