"""Who may hear whom: (P,) bool tensors over the (query, key) pairs of a packing. None means everybody."""

# Shapes: T flat pieces, P (query, key) pairs (see packing.py).
from __future__ import annotations

from torch import Tensor

from fenghuo.net.packing import Packing


def left_to_right(packing: Packing) -> Tensor:
    """Each piece hears itself and what stands before it."""
    query_P, key_P = packing.pairs
    return key_P <= query_P


def right_to_left(packing: Packing) -> Tensor:
    """Each piece hears itself and what follows it."""
    query_P, key_P = packing.pairs
    return key_P >= query_P


def sequence_to_sequence(packing: Packing, segments_T: Tensor) -> Tensor:
    """Segment 0 hears all of itself; later segments hear segment 0 and, of the rest, what stands before.

    Source: UniLM (arXiv 1905.03197).
    """
    query_P, key_P = packing.pairs
    return (segments_T[key_P] == 0) | ((segments_T[query_P] > 0) & (key_P <= query_P))


def same_group(packing: Packing, group_T: Tensor) -> Tensor:
    """Pieces hear their own group only: several documents in one sequence do not mix."""
    query_P, key_P = packing.pairs
    return group_T[query_P] == group_T[key_P]
