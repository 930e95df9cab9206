"""Optimizers and schedules.

A schedule is a pure function of the step number, so that a checkpoint needs to keep the number only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fenghuo.training.recipe import OptimizerRecipe, ScheduleRecipe


class Lamb(torch.optim.Optimizer):
    """Layer-wise adaptive moments for large batches (You et al. 2020, arXiv 1904.00962, algorithm 2).

    With m and v the bias-corrected moments, u = m / (sqrt(v) + epsilon) + weight_decay * w, and each tensor moves
    by lr * clamp(|w| / |u|, max=trust_clip) * u. The ratio is 1 where |w| or |u| is 0. Tensors without weight decay
    (biases, norms) take the plain step u, as Google's code has it; NVIDIA's and NEZHA's adapt them too, and divide
    by the norm of another vector than the one they apply.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        trust_clip: float = 10.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "trust_clip": trust_clip,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients that stand in the parameters."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        number = state["step"].item()
        mean = state["exp_avg"] / (1 - beta1**number)
        root = (state["exp_avg_sq"] / (1 - beta2**number)).sqrt_().add_(group["eps"])
        update = mean.div_(root)
        ratio = 1.0
        if group["weight_decay"]:
            update.add_(weight, alpha=group["weight_decay"])
            weight_norm, update_norm = weight.norm().item(), update.norm().item()
            if weight_norm > 0 and update_norm > 0:
                ratio = min(weight_norm / update_norm, group["trust_clip"])
        weight.add_(update, alpha=-group["lr"] * ratio)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and tables decay; vectors (biases, norms) do not."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """The optimizer a recipe names, over the parameters of `model` that want a gradient."""
    groups = parameter_groups(model, recipe.weight_decay)
    if recipe.name == "lamb":
        return Lamb(
            groups,
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.epsilon,
            trust_clip=recipe.trust_clip,
        )
    return torch.optim.AdamW(
        groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon, fused=True
    )


def rate_at(step: int, total: int, recipe: ScheduleRecipe) -> float:
    """Share of the peak learning rate at `step` (1 … total). Warm-up rises linearly and ends at 1."""
    warmup = round(recipe.warmup * total) if recipe.warmup < 1 else round(recipe.warmup)
    warmup = min(warmup, total)
    if step <= warmup:
        return step / max(1, warmup)
    left = 1 - (step - warmup) / (total + 1 - warmup)  # in (0, 1): the last step still moves
    match recipe.name:
        case "constant":
            return 1.0
        case "linear":
            return left
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * (1 - left)))
        case "polynomial":
            return float(left**recipe.power)
        case "wsd":
            return min(1.0, left / 0.2)
