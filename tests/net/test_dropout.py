from __future__ import annotations

import math

import pytest
import torch

from fenghuo.net.dropout import Dropout, keep_mask

CPU = torch.device("cpu")


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.013])
def test_the_share_dropped_is_the_rate(rate):
    torch.manual_seed(0)
    keep, scale = keep_mask((1000, 1001), rate, CPU)
    deviation = math.sqrt(rate * (1 - rate) / keep.numel())
    assert abs(float((keep == 0).double().mean()) - rate) < 4 * deviation + 1e-5
    assert scale == pytest.approx(1 / (1 - rate), rel=2e-5)
    assert set(keep.unique().tolist()) == {0, 1}


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (keep_mask((2_000_000,), 0.3, CPU)[0] == 0).double()
    for lag in (1, 2, 3, 4, 5, 64, 1000):
        both = float((dropped[:-lag] * dropped[lag:]).mean())
        assert both == pytest.approx(0.09, abs=4 * math.sqrt(0.09 * 0.91 / 2e6))


def test_the_seed_and_the_generator_state_decide():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = [keep_mask((777,), 0.1, CPU)[0] for _ in range(2)]
    assert not torch.equal(*first)
    torch.set_rng_state(state)
    again = [keep_mask((777,), 0.1, CPU)[0] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_mean_stays_and_gradients_follow_the_mask():
    torch.manual_seed(0)
    dropout = Dropout(0.25)
    x = torch.ones(400, 500, requires_grad=True)
    y = dropout(x)
    assert float(y.detach().mean()) == pytest.approx(1.0, abs=0.01)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_added_is_the_sum(dtype):
    residual = torch.randn(50, 8, requires_grad=True)
    x = torch.randn(50, 8, dtype=dtype, requires_grad=True)
    dropout = Dropout(0.5)
    torch.manual_seed(1)
    apart = residual + dropout(x.float())
    torch.manual_seed(1)
    together = dropout.added(residual, x)
    torch.testing.assert_close(together, apart)
    grad = torch.randn_like(residual)
    torch.manual_seed(1)
    mine = torch.autograd.grad(together, (residual, x), grad)
    theirs = torch.autograd.grad(apart, (residual, x), grad)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_evaluation_and_rate_zero_change_nothing_and_draw_nothing():
    x = torch.randn(3, 4)
    state = torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(Dropout(0.0).added(x, x), x + x)
    assert torch.equal(torch.get_rng_state(), state)
