"""Lookahead against its formula, around both optimizers, and over a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fenghuo.training.lookahead import Lookahead
from fenghuo.training.optim import build_optimizer, settled
from fenghuo.training.recipe import LookaheadRecipe, OptimizerRecipe
from fenghuo.training.state import pack_state, read_checkpoint, unpack_state, write_checkpoint


def recipe_of(name: str, steps: int = 5, rate: float = 0.5) -> OptimizerRecipe:
    lookahead = LookaheadRecipe(steps=steps, rate=rate)
    return OptimizerRecipe(name=name, learning_rate=0.05, lookahead=lookahead)


def by_hand(
    start: np.ndarray, inner: Callable[[np.ndarray], np.ndarray], *, steps: int, k: int, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of arXiv 1907.08610: (fast, slow) after so many inner steps."""
    fast, slow = start.copy(), start.copy()
    for t in range(1, steps + 1):
        fast = inner(fast)
        if t % k == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow.copy()
    return fast, slow


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.5), (3, 0.8), (1, 0.25), (4, 1.0)])
def test_it_takes_the_steps_of_the_paper(k: int, alpha: float) -> None:
    start = np.random.default_rng(0).normal(size=(4, 3))
    weight = nn.Parameter(torch.tensor(start))
    optimizer = Lookahead(torch.optim.SGD([weight], lr=0.1), steps=k, rate=alpha)
    for _ in range(13):
        weight.grad = 2 * weight.detach() - 1
        optimizer.step()
    fast, slow = by_hand(start, lambda w: w - 0.1 * (2 * w - 1), steps=13, k=k, alpha=alpha)
    np.testing.assert_allclose(weight.detach().numpy(), fast, rtol=1e-12)
    np.testing.assert_allclose(optimizer.slow[weight].numpy(), slow, rtol=1e-12)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_the_inner_optimizer_keeps_its_moments_over_a_move(name: str) -> None:
    """Against the same optimizer alone, whose weights are moved by hand."""
    torch.manual_seed(0)
    start, grads = torch.randn(6, 4), torch.randn(12, 6, 4)
    wrapped, alone = nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)
    for model in (wrapped, alone):
        model.weight.data.copy_(start)
    mine = build_optimizer(wrapped, recipe_of(name, steps=4))
    inner = build_optimizer(alone, recipe_of(name).model_copy(update={"lookahead": None}))
    slow = start.clone()
    for number, grad in enumerate(grads, start=1):
        for model, optimizer in ((wrapped, mine), (alone, inner)):
            model.weight.grad = grad.clone()
            optimizer.step()
        if number % 4 == 0:
            slow += 0.5 * (alone.weight.detach() - slow)
            alone.weight.data.copy_(slow)
    torch.testing.assert_close(wrapped.weight, alone.weight)


def test_a_schedule_reaches_the_inner_optimizer() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = Lookahead(torch.optim.SGD([weight], lr=0.1))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    weight.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(2))


def test_what_is_shown_between_two_moves_is_what_the_next_would_give_and_then_gone() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = Lookahead(torch.optim.SGD([weight], lr=1.0), steps=5, rate=0.5)
    for _ in range(3):
        weight.grad = torch.full((2,), -1.0)
        optimizer.step()
    with settled(optimizer):
        assert weight.tolist() == [1.5, 1.5]
    assert weight.tolist() == [3.0, 3.0]
    assert optimizer.since == 3
    optimizer.settle()
    assert weight.tolist() == [1.5, 1.5]
    with settled(optimizer):
        assert weight.tolist() == [1.5, 1.5]


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_a_checkpoint_between_two_moves_goes_on_in_the_same_bits(name: str, tmp_path: Path) -> None:
    def fresh(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 1))
        model.append(nn.Linear(1, 1))  # never has a gradient
        return model, build_optimizer(model, recipe_of(name, steps=5))

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            torch.manual_seed(number)
            model[:3](torch.randn(8, 5)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    model, optimizer = fresh(0)
    train(model, optimizer, range(8))  # three steps after a move
    write_checkpoint(tmp_path, step=8, tensors=pack_state(model, optimizer), values={}, keep=1)
    train(model, optimizer, range(8, 21))
    again, its_optimizer = fresh(9)
    unpack_state(read_checkpoint(tmp_path / "step-8").tensors, again, its_optimizer)
    train(again, its_optimizer, range(8, 21))
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
