from __future__ import annotations

import pytest
import torch

from fenghuo.net.position import distance_index, distance_table


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
