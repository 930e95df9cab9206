"""The loop's arithmetic: what is a mean over what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fenghuo.errors import DivergedError
from fenghuo.training.loop import Terms, seed_step, steps


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, -0.25]]))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


class Squares:
    """Sum of squared errors over the rows that are asked."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def counts(self, batch: Mapping[str, Any]) -> dict[str, float]:
        return {"squares": float(len(batch["x"]))}

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        return Terms({"squares": (self.model(batch["x"]) - batch["y"]).square().sum()})


def batch(n: int, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "x": draw.normal(size=(n, 2)).astype("float32"),
        "y": draw.normal(size=(n, 1)).astype("float32"),
        "pieces": np.zeros(n),
    }


def one_step(micro_batches: list[dict[str, Any]], clip: float = 1e9) -> tuple[Tensor, Any]:
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    feed: Iterator[Any] = iter([("next", micro_batches)])
    step = next(steps(model, feed, Squares(model), optimizer, lambda number: 0.1, start=0, seed=0, clip=clip))
    return model.weight.detach().clone(), step


def test_micro_batches_of_unequal_size_give_the_step_of_the_whole_batch() -> None:
    parts = [batch(1, 0), batch(5, 1), batch(2, 2)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    in_parts, step_in_parts = one_step(parts)
    at_once, step_at_once = one_step([whole])
    torch.testing.assert_close(in_parts, at_once)
    assert step_in_parts.figures["loss"] == pytest.approx(step_at_once.figures["loss"], rel=1e-6)
    assert step_in_parts.pieces == 8


def test_the_gradient_is_clipped_by_its_global_norm() -> None:
    free, step = one_step([batch(4, 3)])
    bound, _ = one_step([batch(4, 3)], clip=step.grad_norm / 4)
    start = Line().weight.detach()
    torch.testing.assert_close((bound - start) * 4, free - start, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_stops_before_the_weights_move() -> None:
    bad = batch(3, 4)
    bad["y"][1] = np.nan
    model = Line()
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    feed: Iterator[Any] = iter([((7, 3), [bad])])
    with pytest.raises(DivergedError, match="step 1: loss nan"):
        next(steps(model, feed, Squares(model), optimizer, lambda n: 0.1, start=0, seed=0, clip=1.0))
    assert torch.equal(model.weight.detach(), before)


def test_dropout_is_a_function_of_seed_and_step() -> None:
    def draw(seed: int, step: int) -> Tensor:
        seed_step(seed, step)
        return torch.rand(8)

    assert torch.equal(draw(1, 5), draw(1, 5))
    assert not torch.equal(draw(1, 5), draw(1, 6))
    assert not torch.equal(draw(1, 5), draw(2, 5))
