"""Flat batches: no padding where it costs.

A batch of S sequences is one row of T pieces. Only attention needs a sequence's pieces side by side; for it
sequences of similar length are laid out in one block, so that little padding is computed.
"""

# Shapes: S sequences, T flat pieces, P = sum of squared lengths (query, key) pairs, D width,
# n sequences of one block, L its longest length, B rows and L columns of a padded batch.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# A block takes lengths down to this share of its longest, or this many pieces below it: at most about a tenth
# of a block is padding on average, and few blocks mean few kernel calls.
_BLOCK_SHARE = 0.85
_BLOCK_SLACK = 8


@dataclass(frozen=True, slots=True)
class Block:
    """Sequences of similar length, laid out side by side."""

    count: int
    length: int
    start: int  # first piece in the flat batch where `slots` is None
    slots: Tensor | None  # (n * L,) the piece in each slot; None: the pieces already lie so, a view will do
    filled: Tensor | None  # (n, L) bool, the slot holds a piece of its sequence; None: all do


class Packing:
    """Where each sequence of a flat batch lies.

    Args:
        lengths: pieces of each sequence, S numbers; zero is allowed.
        device: where its tensors live; by default where `lengths` lives.
    """

    def __init__(self, lengths: Tensor | Sequence[int], device: torch.device | str | None = None) -> None:
        self.sizes: list[int] = lengths.tolist() if isinstance(lengths, Tensor) else [int(n) for n in lengths]
        if any(n < 0 for n in self.sizes):
            raise ValueError("a sequence's length is negative")
        if device is None:
            device = lengths.device if isinstance(lengths, Tensor) else "cpu"
        self.device = torch.device(device)
        self.total = sum(self.sizes)
        self.longest = max(self.sizes, default=0)
        self.lengths = torch.tensor(self.sizes, dtype=torch.int64, device=self.device)
        self.starts = self.lengths.cumsum(0) - self.lengths

    @classmethod
    def of(cls, lengths: Tensor | Sequence[int], device: torch.device | str | None = None) -> Packing:
        """The packing of sequences of these lengths, in this order."""
        return cls(lengths, device)

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def sequence_T(self) -> Tensor:
        """(T,) the sequence each piece belongs to."""
        index_S = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(index_S, self.lengths, output_size=self.total)

    @cached_property
    def positions_T(self) -> Tensor:
        """(T,) each piece's place in its sequence, from 0."""
        return torch.arange(self.total, device=self.device) - self.starts[self.sequence_T]

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks attention works on, longest first."""
        order = sorted((i for i, n in enumerate(self.sizes) if n), key=lambda i: (-self.sizes[i], i))
        groups: list[list[int]] = []
        for i in order:
            longest = self.sizes[groups[-1][0]] if groups else 0
            if groups and self.sizes[i] >= min(longest * _BLOCK_SHARE, longest - _BLOCK_SLACK):
                groups[-1].append(i)
            else:
                groups.append([i])
        return [self._block(sorted(group)) for group in groups]

    def _block(self, group: list[int]) -> Block:
        sizes = [self.sizes[i] for i in group]
        length = max(sizes)
        if len(set(sizes)) == 1 and group == list(range(group[0], group[-1] + 1)):
            return Block(len(group), length, sum(self.sizes[: group[0]]), None, None)
        rows = torch.tensor(group, device=self.device)
        lengths_n, place_L = self.lengths[rows], torch.arange(length, device=self.device)
        # An empty slot repeats the sequence's last piece: a finite number that the mask hides.
        slots = self.starts[rows, None] + torch.minimum(place_L, lengths_n[:, None] - 1)
        filled = None if len(set(sizes)) == 1 else place_L < lengths_n[:, None]
        return Block(len(group), length, 0, slots.flatten(), filled)

    @cached_property
    def is_view(self) -> bool:
        """All lengths are equal: laying out costs nothing."""
        return len(self.blocks) == 1 and self.blocks[0].slots is None

    @cached_property
    def slot_T(self) -> Tensor:
        """(T,) each piece's slot, counted through all blocks."""
        slot_T = torch.empty(self.total, dtype=torch.int64, device=self.device)
        offset = 0
        for block in self.blocks:
            slots = torch.arange(offset, offset + block.count * block.length, device=self.device)
            if block.slots is None:
                slot_T[block.start : block.start + slots.numel()] = slots
            else:
                kept = slice(None) if block.filled is None else block.filled.flatten()
                slot_T[block.slots[kept]] = slots[kept]
            offset += slots.numel()
        return slot_T

    def lay_out(self, x_TD: Tensor) -> list[Tensor]:
        """(T, D) → one (n, L, D) a block. What an empty slot holds is finite and means nothing."""
        if self.is_view:
            return [x_TD.view(self.blocks[0].count, self.blocks[0].length, *x_TD.shape[1:])]
        return list(_LayOut.apply(self, x_TD))  # type: ignore[no-untyped-call]

    def restore(self, blocks: Sequence[Tensor]) -> Tensor:
        """The inverse of `lay_out`: one (n, L, D) a block → (T, D); empty slots are dropped."""
        if self.is_view:
            return blocks[0].flatten(0, 1)
        restored: Tensor = _Restore.apply(self, *blocks)  # type: ignore[no-untyped-call]
        return restored

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """((P,), (P,)): query and key piece of each pair, sequence by sequence, row by row."""
        of_piece_T = self.lengths[self.sequence_T]
        pairs = sum(n * n for n in self.sizes)
        query_P = torch.repeat_interleave(
            torch.arange(self.total, device=self.device), of_piece_T, output_size=pairs
        )
        row_start_T = of_piece_T.cumsum(0) - of_piece_T
        key_P = torch.arange(pairs, device=self.device) - row_start_T[query_P]
        return query_P, key_P + self.starts[self.sequence_T[query_P]]

    @cached_property
    def pair_slot_P(self) -> Tensor:
        """(P,) each pair's place when the (n, L, L) squares of all blocks lie flat, one after another."""
        rows, offset = [self.lengths.new_zeros(0)], 0
        for block in self.blocks:
            slots = torch.arange(block.count * block.length, device=self.device)
            rows.append(offset + slots * block.length)
            offset += slots.numel() * block.length
        query_P, key_P = self.pairs
        return torch.cat(rows)[self.slot_T][query_P] + self.positions_T[key_P]

    def squares(self, allowed_P: Tensor) -> list[Tensor]:
        """(P,) bool → one (n, L, L) bool a block; a slot without a piece hears all, and is never heard."""
        if allowed_P.shape != (sum(n * n for n in self.sizes),):
            raise ValueError(f"allowed is {tuple(allowed_P.shape)}, not ({sum(n * n for n in self.sizes)},)")
        sizes = [block.count * block.length**2 for block in self.blocks]
        flat = torch.zeros(sum(sizes), dtype=torch.bool, device=self.device)
        flat[self.pair_slot_P] = allowed_P.to(torch.bool)
        out = []
        for block, part in zip(self.blocks, torch.split(flat, sizes), strict=True):
            square = part.view(block.count, block.length, block.length)
            if block.filled is not None:
                square = square | ~block.filled[:, :, None]
            out.append(square)
        return out

    def flat_pairs(self, squares: Sequence[Tensor]) -> Tensor:
        """One (n, H, L, L) a block → (H, P), the pairs of real pieces only."""
        flat_HX = torch.cat([square.transpose(0, 1).flatten(1) for square in squares], dim=1)
        return flat_HX if self.is_view else flat_HX.index_select(1, self.pair_slot_P)


def _spread(packing: Packing, x_TD: Tensor) -> tuple[Tensor, ...]:
    out = []
    for block in packing.blocks:
        if block.slots is None:
            laid = x_TD.narrow(0, block.start, block.count * block.length).clone()
        else:
            laid = x_TD.index_select(0, block.slots)
        out.append(laid.view(block.count, block.length, *x_TD.shape[1:]))
    return tuple(out)


def _collect(packing: Packing, blocks: Sequence[Tensor]) -> Tensor:
    return torch.cat([block.flatten(0, 1) for block in blocks]).index_select(0, packing.slot_T)


class _LayOut(torch.autograd.Function):
    """Its gradient is a gather too: attention masks empty slots, so nothing comes back from them."""

    @staticmethod
    def forward(ctx: Any, packing: Packing, x_TD: Tensor) -> tuple[Tensor, ...]:
        ctx.packing = packing
        return _spread(packing, x_TD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, _collect(ctx.packing, grads)


class _Restore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packing: Packing, *blocks: Tensor) -> Tensor:
        ctx.packing = packing
        return _collect(packing, blocks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        grads = _spread(ctx.packing, grad_TD)
        for block, grad in zip(ctx.packing.blocks, grads, strict=True):
            if block.filled is not None:
                grad.masked_fill_(~block.filled.view(*block.filled.shape, *[1] * (grad.dim() - 2)), 0)
        return None, *grads


def pack(x_BL: Tensor, kept_T: Tensor | None) -> Tensor:
    """(B, L, …) → (T, …): the rows `kept_T` of the flattened batch; None keeps all."""
    flat = x_BL.flatten(0, 1)
    return flat if kept_T is None else flat.index_select(0, kept_T)


def unpack(x_T: Tensor, kept_T: Tensor | None, rows: int, columns: int) -> Tensor:
    """(T, …) → (B, L, …), zeros where nothing was kept."""
    if kept_T is not None:
        flat = x_T.new_zeros(rows * columns, *x_T.shape[1:])
        x_T = flat.index_copy(0, kept_T, x_T)
    return x_T.view(rows, columns, *x_T.shape[1:])
