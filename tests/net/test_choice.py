"""The choice among words, beside torch's own operations in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fenghuo.net import choice as module
from fenghuo.net.choice import choice


def given(rows: int, width: int, words: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(rows)
    shapes = ((rows, width), (words, width), (words,))
    return [torch.randn(s, generator=generator).requires_grad_() for s in shapes]


def plain(x: Tensor, words: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = F.linear(x, words, bias)
    return F.cross_entropy(logits, target, reduction="none"), logits.argmax(-1) == target


@pytest.mark.parametrize("rows", [0, 1, 37])
def test_losses_and_gradients_are_torchs(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 400)  # so that rows are passed over in several parts
    ours = given(rows, 8, 50)
    oracle = [x.detach().double().requires_grad_() for x in ours]
    target = torch.arange(rows) % 50
    back = torch.linspace(-1, 2, rows)
    nll, right = choice(*ours, target)
    expected, hit = plain(*oracle, target)
    torch.testing.assert_close(nll.double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(right, hit)
    grads = torch.autograd.grad(nll, ours, back)
    for grad, other in zip(grads, torch.autograd.grad(expected, oracle, back.double()), strict=True):
        torch.testing.assert_close(grad.double(), other, rtol=1e-5, atol=1e-6)


def test_some_are_right_and_the_first_of_equal_logits_is_chosen() -> None:
    x = torch.eye(3)
    words = torch.tensor([[5.0, 1.0, 0.0], [0.0, 1.0, 0.0], [5.0, 1.0, 9.0]])
    _, right = choice(x, words, torch.zeros(3), torch.tensor([2, 0, 2]))
    assert right.tolist() == [False, True, True]


def test_a_word_whose_probability_is_zero_has_a_finite_loss() -> None:
    x = torch.tensor([[1.0]], requires_grad=True)
    nll, _ = choice(x, torch.tensor([[300.0], [0.0]]), torch.zeros(2), torch.tensor([1]))
    assert nll.item() == 300.0
    assert torch.autograd.grad(nll, x)[0].item() == 300.0


def test_without_gradient_and_under_autocast() -> None:
    x, words, bias = given(9, 8, 50)
    target = torch.arange(9)
    expected, hit = plain(x, words, bias, target)
    with torch.inference_mode():
        nll, right = choice(x, words, bias, target)
    torch.testing.assert_close(nll, expected.detach())
    assert torch.equal(right, hit)
    with torch.autocast("cpu", torch.bfloat16):
        halved, _ = choice(x, words, bias, target)
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, expected, rtol=0.05, atol=0.1)


def test_targets_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="targets"):
        choice(*given(3, 8, 50), torch.zeros(2, dtype=torch.int64))
