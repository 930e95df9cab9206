from __future__ import annotations

import pytest
import torch

from fenghuo.net.position import Rotation, distance_index, distance_table


@pytest.mark.parametrize(("clip", "width"), [(4, 8), (64, 64), (127, 26)])
def test_the_table_is_the_formula(table_oracle, clip, width):
    table = distance_table(clip, width)
    assert table.dtype == torch.float32
    torch.testing.assert_close(table, table_oracle(clip, width).float(), rtol=0, atol=1e-7)


def test_known_entries_of_the_table():
    """Row R is distance 0, and its phase is R itself: the released code's shift, not the paper's formula."""
    table = distance_table(64, 64)
    assert table[64, 0] == pytest.approx(0.92002604)  # sin 64
    assert table[64, 1] == pytest.approx(0.39185723)  # cos 64
    assert table[0].tolist() == [0.0, 1.0] * 32


def test_distances_are_clipped_and_signed():
    place = torch.tensor([0, 3, 9])
    assert distance_index(place, place, 4).tolist() == [[4, 7, 8], [1, 4, 8], [0, 0, 4]]


@pytest.mark.parametrize(("length", "clip", "width"), [(1, 4, 8), (5, 4, 8), (65, 64, 64), (128, 127, 26)])
def test_rotation_is_the_formula_within_the_clip(oracle, table_oracle, length, clip, width):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, width, dtype=torch.float64, requires_grad=True) for _ in range(3))
    wanted, wanted_score = oracle(q, k, v, table=table_oracle(clip, width))
    rotation = Rotation(length, clip, width, torch.device("cpu"))
    wide_q, wide_k, wide_v = rotation.apply(q / width**0.5, k, v)
    score = wide_q @ wide_k.mT
    heard = rotation.undo(score.softmax(-1) @ wide_v)
    # The turn is kept in float32, so that float64 agrees to float32's last digits.
    torch.testing.assert_close(score, wanted_score, rtol=0, atol=1e-5)
    torch.testing.assert_close(heard, wanted, rtol=0, atol=1e-5)
    grad = torch.randn_like(heard)
    for mine, theirs in zip(
        torch.autograd.grad(heard, (q, k, v), grad), torch.autograd.grad(wanted, (q, k, v), grad), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5)
