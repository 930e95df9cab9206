"""Optimizers against their formulas, schedules against their properties."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fenghuo.training.optim import Lamb, build_optimizer, parameter_groups, rate_at
from fenghuo.training.recipe import OptimizerRecipe, ScheduleRecipe

NAMES = ["linear", "cosine", "constant", "polynomial", "wsd"]


def lamb_by_hand(
    weight: np.ndarray, grads: list[np.ndarray], *, lr: float, decay: float, clip: float
) -> np.ndarray:
    """Algorithm 2 of arXiv 1904.00962 in float64, line by line."""
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for t, g in enumerate(grads, 1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        u = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * weight
        ratio = 1.0
        if decay and np.linalg.norm(weight) > 0 and np.linalg.norm(u) > 0:
            ratio = min(np.linalg.norm(weight) / np.linalg.norm(u), clip)
        weight = weight - lr * ratio * u
    return weight


@pytest.mark.parametrize(("decay", "clip"), [(0.01, 10.0), (0.0, 10.0), (0.01, 0.05)])
def test_lamb_takes_the_steps_of_the_paper(decay: float, clip: float) -> None:
    draw = np.random.default_rng(0)
    start = draw.normal(size=(7, 5))
    grads = [draw.normal(size=(7, 5)) for _ in range(6)]
    weight = nn.Parameter(torch.tensor(start))
    optimizer = Lamb([weight], lr=0.03, weight_decay=decay, trust_clip=clip)
    for grad in grads:
        weight.grad = torch.tensor(grad)
        optimizer.step()
    wanted = lamb_by_hand(start, grads, lr=0.03, decay=decay, clip=clip)
    np.testing.assert_allclose(weight.detach().numpy(), wanted, rtol=1e-6)


def test_lamb_moves_a_tensor_of_zeros() -> None:
    weight = nn.Parameter(torch.zeros(3, 3))
    optimizer = Lamb([weight], lr=0.1)
    weight.grad = torch.ones(3, 3)
    optimizer.step()
    assert torch.allclose(weight.detach(), torch.full((3, 3), -0.1), atol=1e-5)


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    decayed, free = parameter_groups(model, 0.1)
    assert [tuple(weight.shape) for weight in decayed["params"]] == [(3, 4)]
    assert len(free["params"]) == 3
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_every_optimizer_brings_a_loss_down(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    optimizer = build_optimizer(model, OptimizerRecipe(name=name, learning_rate=0.02, weight_decay=0.0))
    x, y = torch.randn(64, 6), torch.randn(64, 1)
    losses = []
    for _ in range(50):
        loss = (model(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@given(
    st.sampled_from(NAMES),
    st.integers(1, 500),
    st.one_of(st.floats(0, 0.9), st.integers(1, 50).map(float)),
)
def test_a_schedule_stays_within_its_peak_and_always_moves(name: str, total: int, warmup: float) -> None:
    recipe = ScheduleRecipe(name=name, warmup=warmup)
    rates = [rate_at(step, total, recipe) for step in range(1, total + 1)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_linear_warmup_ends_at_the_peak_without_a_jump() -> None:
    recipe = ScheduleRecipe(name="linear", warmup=10)
    rates = [rate_at(step, 100, recipe) for step in range(1, 101)]
    assert rates[9] == 1.0
    assert max(abs(a - b) for a, b in pairwise(rates)) <= 0.1 + 1e-12
    assert rates[-1] == pytest.approx(1 / 91)
