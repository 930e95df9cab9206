"""LAMB in every form that its docstring names, against the formulas written out in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from fenghuo.training.lamb import Lamb
from fenghuo.training.optim import build_optimizer
from fenghuo.training.recipe import OptimizerRecipe

# bias correction, trust clip, adapted tensors: the table in lamb.py
FORMS = {
    "paper v5": (True, None, "all"),
    "paper v3": (False, None, "all"),
    "Google": (False, None, "decayed"),
    "NVIDIA": (True, None, "decayed"),
    "NEZHA": (True, 10.0, "all"),
    "tight clip": (True, 0.05, "decayed"),
}


def by_hand(
    weight: np.ndarray,
    grads: Sequence[np.ndarray],
    *,
    lr: float,
    decay: float,
    corrected: bool,
    clip: float | None,
    adapted: bool,
) -> np.ndarray:
    """Algorithm 2 of arXiv 1904.00962 in float64, line by line."""
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for t, g in enumerate(grads, 1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        m_hat, v_hat = (m / (1 - 0.9**t), v / (1 - 0.999**t)) if corrected else (m, v)
        u = m_hat / (np.sqrt(v_hat) + 1e-6) + decay * weight
        ratio = 1.0
        if adapted and np.linalg.norm(weight) > 0 and np.linalg.norm(u) > 0:
            ratio = np.linalg.norm(weight) / np.linalg.norm(u)
            ratio = ratio if clip is None else min(ratio, clip)
        weight = weight - lr * ratio * u
    return weight


class Layer(nn.Module):
    """A matrix, which decays, and a bias, which does not."""

    def __init__(self, matrix: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.matrix, self.bias = nn.Parameter(torch.tensor(matrix)), nn.Parameter(torch.tensor(bias))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_takes_the_steps_of_its_formula(form: str) -> None:
    corrected, clip, adapt = FORMS[form]
    draw = np.random.default_rng(0)
    starts = draw.normal(size=(7, 5)), draw.normal(size=9) * 30  # the ratio of the bias is above 10 at first
    grads = [(draw.normal(size=(7, 5)), draw.normal(size=9)) for _ in range(8)]
    layer = Layer(*starts)
    recipe = OptimizerRecipe(
        name="lamb", learning_rate=0.03, bias_correction=corrected, trust_clip=clip, adapt=adapt
    )
    optimizer = build_optimizer(layer, recipe)
    for of_matrix, of_bias in grads:
        layer.matrix.grad, layer.bias.grad = torch.tensor(of_matrix), torch.tensor(of_bias)
        optimizer.step()
    for number, (weight, decay, adapted) in enumerate(
        [(layer.matrix, 0.01, True), (layer.bias, 0.0, adapt == "all")]
    ):
        wanted = by_hand(
            starts[number],
            [pair[number] for pair in grads],
            lr=0.03,
            decay=decay,
            corrected=corrected,
            clip=clip,
            adapted=adapted,
        )
        np.testing.assert_allclose(weight.detach().numpy(), wanted, rtol=1e-6)


def test_the_clip_of_nezha_is_felt() -> None:
    """The test above would pass without it if no ratio were above 10."""
    draw = np.random.default_rng(0)
    draw.normal(size=(7, 5))
    bias = draw.normal(size=9) * 30
    values = {"lr": 0.03, "decay": 0.0, "corrected": True, "adapted": True}
    grads = [np.ones(9)]
    assert not np.allclose(
        by_hand(bias, grads, clip=10.0, **values), by_hand(bias, grads, clip=None, **values)
    )


def test_a_tensor_that_starts_later_is_corrected_by_its_own_count() -> None:
    draw = np.random.default_rng(1)
    starts = [draw.normal(size=(3, 4)) for _ in "ab"]
    grads = [draw.normal(size=(3, 4)) for _ in range(5)]
    first, second = (nn.Parameter(torch.tensor(start)) for start in starts)
    optimizer = Lamb([first, second], lr=0.03)
    for number, grad in enumerate(grads):
        first.grad = torch.tensor(grad)
        second.grad = torch.tensor(grad) if number >= 2 else None
        optimizer.step()
    values = {"lr": 0.03, "decay": 0.01, "corrected": True, "clip": 10.0, "adapted": True}
    np.testing.assert_allclose(first.detach().numpy(), by_hand(starts[0], grads, **values), rtol=1e-6)
    np.testing.assert_allclose(second.detach().numpy(), by_hand(starts[1], grads[2:], **values), rtol=1e-6)


def test_it_moves_a_tensor_of_zeros_and_leaves_one_whose_update_is_zero() -> None:
    zeros, still = nn.Parameter(torch.zeros(3, 3)), nn.Parameter(torch.ones(3, 3))
    optimizer = Lamb([zeros, still], lr=0.1, weight_decay=0.0)
    zeros.grad, still.grad = torch.ones(3, 3), torch.zeros(3, 3)
    optimizer.step()
    assert torch.allclose(zeros.detach(), torch.full((3, 3), -0.1), atol=1e-5)
    assert torch.equal(still.detach(), torch.ones(3, 3))
