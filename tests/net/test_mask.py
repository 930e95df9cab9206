from __future__ import annotations

import torch

from fenghuo.net.mask import left_to_right, right_to_left, same_group, sequence_to_sequence
from fenghuo.net.packing import Packing

PACKING = Packing.of([3, 2])


def squares(allowed_P):
    return allowed_P[:9].view(3, 3).int().tolist(), allowed_P[9:].view(2, 2).int().tolist()


def test_left_to_right():
    assert squares(left_to_right(PACKING)) == ([[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[1, 0], [1, 1]])


def test_right_to_left():
    assert squares(right_to_left(PACKING)) == ([[1, 1, 1], [0, 1, 1], [0, 0, 1]], [[1, 1], [0, 1]])


def test_sequence_to_sequence_hears_the_source_whole_and_the_target_so_far():
    segments_T = torch.tensor([0, 1, 1, 0, 0])
    assert squares(sequence_to_sequence(PACKING, segments_T)) == (
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 1], [1, 1]],
    )


def test_groups_do_not_hear_one_another():
    group_T = torch.tensor([0, 0, 1, 5, 5])
    assert squares(same_group(PACKING, group_T)) == ([[1, 1, 0], [1, 1, 0], [0, 0, 1]], [[1, 1], [1, 1]])
