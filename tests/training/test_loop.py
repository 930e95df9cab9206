"""The loop's arithmetic: what is a mean over what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fenghuo.errors import DivergedError
from fenghuo.training.loop import Terms, loss_scaler, seed_step, steps


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


def one_step(micro_batches: list[dict[str, Any]], clip: float | None = 1e9) -> tuple[Tensor, Any]:
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


class TwoTerms(Squares):
    """Two questions of unequal number: squares of all rows, absolute errors of those whose x is above 0."""

    def counts(self, batch: Mapping[str, Any]) -> dict[str, float]:
        return {"squares": float(len(batch["x"])), "sizes": float((batch["x"][:, 0] > 0).sum())}

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        errors = self.model(batch["x"]) - batch["y"]
        return Terms(
            {"squares": errors.square().sum(), "sizes": 0.5 * errors[batch["x"][:, 0] > 0].abs().sum()},
            {"sizes_right": (errors.abs() < 1).sum()},
        )


def gradient(micro_batches: list[dict[str, Any]]) -> tuple[Tensor, Mapping[str, float]]:
    """The gradient of one step, read from a step of plain descent at rate 1, and its figures."""
    model = Line().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    feed: Iterator[Any] = iter([("next", micro_batches)])
    before = model.weight.detach().clone()
    step = next(steps(model, feed, TwoTerms(model), optimizer, lambda n: 1.0, start=0, seed=0, clip=None))
    return before - model.weight.detach(), step.figures


def test_a_batch_of_two_questions_has_one_gradient_however_it_is_split() -> None:
    """Also where a part asks none of the second, and with the terms' own means as the oracle."""
    rows = {name: array.astype("float64") for name, array in batch(12, 5).items()}
    order = np.argsort(rows["x"][:, 0])  # the first part has no x above 0
    rows = {name: array[order] for name, array in rows.items()}
    whole, figures = gradient([rows])
    line = Line().double()
    errors = line(torch.tensor(rows["x"])) - torch.tensor(rows["y"])
    asked = torch.tensor(rows["x"][:, 0] > 0)
    (errors.square().mean() + 0.5 * errors[asked].abs().mean()).backward()
    assert line.weight.grad is not None
    torch.testing.assert_close(whole, line.weight.grad, rtol=1e-6, atol=1e-9)
    for cuts in ([3], [1, 5, 6], list(range(1, 12))):
        bounds = [0, *cuts, 12]
        parts = [{name: array[a:b] for name, array in rows.items()} for a, b in pairwise(bounds)]
        split, its_figures = gradient(parts)
        torch.testing.assert_close(split, whole, rtol=1e-6, atol=1e-9)
        assert dict(its_figures) == pytest.approx(dict(figures), rel=1e-6)


class Half(Squares):
    """A loss whose gradient is too large for fp16 at the first scales, or at all of them."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__(model)
        self.factor = factor

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        predicted = self.model(batch["x"])
        assert predicted.dtype == torch.float16
        return Terms({"squares": self.factor * (predicted.float() - batch["y"]).square().sum()})


def in_half(
    factor: float, number: int, clip: float | None = 1.0
) -> tuple[nn.Module, list[Any], torch.amp.GradScaler]:
    model = Line()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    scaler = loss_scaler("fp16", torch.device("cpu"))
    assert scaler is not None
    feed: Iterator[Any] = ((n, [batch(8, n)]) for n in range(number))
    taken = []
    before = model.weight.detach().clone()
    for step in steps(
        model,
        feed,
        Half(model, factor),
        optimizer,
        lambda n: 0.01,
        start=0,
        seed=0,
        clip=clip,
        precision="fp16",
        scaler=scaler,
    ):
        taken.append((step, torch.equal(before, model.weight.detach())))
        before = model.weight.detach().clone()
    return model, taken, scaler


def test_a_gradient_that_overflows_in_half_precision_costs_its_step_and_halves_the_scale() -> None:
    model, taken, scaler = in_half(100.0, 12)
    skipped = [step.skipped for step, _ in taken]
    assert skipped[0]
    assert 0 < sum(skipped) < 12
    assert [same for _, same in taken] == skipped
    assert [step.number for step, _ in taken] == list(range(1, 13))
    assert [step.scale for step, _ in taken] == [2.0 ** (16 - sum(skipped[:n])) for n in range(12)]
    assert scaler.get_scale() == 2.0 ** (16 - sum(skipped))
    # Clipping came after the scale was taken away: the norm is that of the loss as it is.
    step = taken[-1][0]
    assert step.grad_norm < 1e4
    assert model.weight.dtype == torch.float32


def test_a_loss_that_no_scale_saves_stops_the_run() -> None:
    with pytest.raises(DivergedError):
        in_half(1e9, 40)


def test_fp16_follows_fp32() -> None:
    """Adam's steps do not depend on the loss's factor, unless something was clipped or left scaled."""
    model, taken, _ = in_half(0.01, 30, clip=None)
    exact = Line()
    optimizer = torch.optim.AdamW(exact.parameters(), lr=0.01, fused=True)
    feed: Iterator[Any] = ((n, [batch(8, n)]) for n in range(30))
    for _ in steps(exact, feed, Squares(exact), optimizer, lambda n: 0.01, start=0, seed=0, clip=None):
        pass
    assert not any(step.skipped for step, _ in taken)
    torch.testing.assert_close(model.weight, exact.weight, rtol=0, atol=5e-3)


def test_without_a_bound_the_gradient_stays_as_it_is() -> None:
    free, step = one_step([batch(4, 3)])
    unbound, _ = one_step([batch(4, 3)], clip=None)
    assert torch.equal(free, unbound)
    assert step.grad_norm > 0
