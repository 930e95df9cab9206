from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.net.packing import Packing, pack, unpack

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


@given(LENGTHS)
def test_what_is_laid_out_comes_back(lengths):
    packing = Packing.of(lengths)
    x_TD = torch.randn(packing.total, 3, requires_grad=True)
    back_TD = packing.restore(packing.lay_out(x_TD))
    assert torch.equal(back_TD, x_TD)
    grad_TD = torch.randn_like(x_TD)
    assert torch.equal(torch.autograd.grad(back_TD, x_TD, grad_TD)[0], grad_TD)


@given(LENGTHS)
def test_each_row_of_a_block_is_one_sequence_from_its_first_piece(lengths):
    packing = Packing.of(lengths)
    laid = packing.lay_out(torch.arange(packing.total))
    found = []
    for block, rows in zip(packing.blocks, laid, strict=True):
        filled = torch.ones_like(rows, dtype=torch.bool) if block.filled is None else block.filled
        found += [row[held].tolist() for row, held in zip(rows, filled, strict=True)]
    starts = packing.starts.tolist()
    wanted = [list(range(s, s + n)) for s, n in zip(starts, lengths, strict=True) if n]
    assert sorted(found) == wanted


@given(LENGTHS)
def test_little_padding_is_computed(lengths):
    packing = Packing.of(lengths)
    for block in packing.blocks:
        if block.filled is not None:
            assert (block.filled.sum(1) >= min(0.85 * block.length, block.length - 8)).all()


def test_equal_lengths_are_a_view():
    packing = Packing.of([5, 5, 5])
    x_TD = torch.randn(15, 2)
    (block,) = packing.lay_out(x_TD)
    assert block.data_ptr() == x_TD.data_ptr()
    assert packing.restore([block]).data_ptr() == x_TD.data_ptr()


@given(LENGTHS)
def test_pairs_run_sequence_by_sequence_and_row_by_row(lengths):
    packing = Packing.of(lengths)
    query_P, key_P = packing.pairs
    wanted = [
        (s + i, s + j)
        for s, n in zip(packing.starts.tolist(), lengths, strict=True)
        for i in range(n)
        for j in range(n)
    ]
    assert list(zip(query_P.tolist(), key_P.tolist(), strict=True)) == wanted


@given(LENGTHS)
def test_squares_and_flat_pairs_are_inverse(lengths):
    packing = Packing.of(lengths)
    allowed_P = torch.rand(sum(n * n for n in lengths)) < 0.5
    squares = packing.squares(allowed_P)
    assert torch.equal(packing.flat_pairs([square[:, None] for square in squares])[0], allowed_P)
    for block, square in zip(packing.blocks, squares, strict=True):
        if block.filled is not None:
            assert not square[block.filled][~block.filled.repeat_interleave(block.filled.sum(1), 0)].any()
            assert square[~block.filled].all()


@given(LENGTHS)
def test_positions_and_sequences(lengths):
    packing = Packing.of(torch.tensor(lengths))
    assert packing.positions_T.tolist() == [i for n in lengths for i in range(n)]
    assert packing.sequence_T.tolist() == [s for s, n in enumerate(lengths) for _ in range(n)]


def test_pack_and_unpack_a_padded_batch():
    x_BL = torch.arange(1, 7).view(2, 3)
    kept_T = torch.tensor([0, 2, 4])
    assert pack(x_BL, kept_T).tolist() == [1, 3, 5]
    assert unpack(pack(x_BL, kept_T), kept_T, 2, 3).tolist() == [[1, 0, 3], [0, 5, 0]]
    assert torch.equal(unpack(pack(x_BL, None), None, 2, 3), x_BL)


def test_a_wrong_number_of_allowed_pairs_is_named():
    with pytest.raises(ValueError, match=r"allowed is \(3,\), not \(5,\)"):
        Packing.of([1, 2]).squares(torch.ones(3, dtype=torch.bool))


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match="negative"):
        Packing.of([1, -1])
