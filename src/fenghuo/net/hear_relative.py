"""Attention of position "xl" between the projections, over flat pieces and what is remembered of earlier ones."""

# Shapes: S sequences, T flat pieces, M remembered pieces a sequence, D width, H heads, N head width (D = H * N);
# of one block: n sequences, L its length, K = M + L keys.
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fenghuo.net.config import EncoderConfig
from fenghuo.net.packing import Block, Packing
from fenghuo.net.relative import Relative, shift


class RelativeHear:
    """Left-to-right attention over a packing, with memory.

    A score is (q + u) · k + (q + v) · W_r R[distance], divided by the root of N. Distances count the pieces of the
    packing, from one to the next: what a mask dropped stood nowhere. Slots without a piece stand behind all
    pieces of their sequence, so that hearing to the left alone hides them.

    Args:
        config: the encoder's shape.
        relative: its weights of positions.
        packing: the batch.
        memory: M, of each sequence. `key` and `value` begin with S * M rows of it, sequence after sequence.
        dropout: share of the attention weights that are dropped; 0 in evaluation.
        allowed_P: who may hear whom (see mask.py) among the pieces that are not remembered; what follows a piece
            stays hidden from it.
    """

    def __init__(
        self,
        config: EncoderConfig,
        relative: Relative,
        packing: Packing,
        *,
        memory: int = 0,
        dropout: float = 0.0,
        allowed_P: Tensor | None = None,
    ) -> None:
        self.config, self.relative, self.packing = config, relative, packing
        self.memory, self.dropout = memory, dropout
        self.rows_KD = relative.sinusoids(memory + packing.longest)
        self.hidden = [self._out_of_reach(block.length) for block in packing.blocks]
        if allowed_P is not None:
            squares = packing.squares(allowed_P)
            self.hidden = [
                hidden | F.pad(~square, (memory, 0))[:, None]
                for hidden, square in zip(self.hidden, squares, strict=True)
            ]
            if any(bool(hidden.all(-1).any()) for hidden in self.hidden):
                raise ValueError("allowed: a piece may hear nothing, not even itself")

    def __call__(self, layer: int, q_TD: Tensor, k_XD: Tensor, v_XD: Tensor) -> Tensor:
        packing, rows = self.packing, len(self.packing) * self.memory
        if not packing.blocks:
            return q_TD
        of_distance, content, distance = self.relative.of_layer(layer, self.rows_KD)
        queries = packing.lay_out(q_TD)
        keys, values = (packing.lay_out(x_XD[rows:]) for x_XD in (k_XD, v_XD))
        heard = []
        for number, block in enumerate(packing.blocks):
            q = self._heads(queries[number])
            k, v = (
                self._heads(self._remembered(block, x_XD[:rows], laid))
                for x_XD, laid in ((k_XD, keys[number]), (v_XD, values[number]))
            )
            by_distance = (q + distance) @ of_distance[:, -(k.shape[2] + 1) :].mT
            bias = shift(by_distance * self.config.head_width**-0.5)
            bias = bias.masked_fill(self.hidden[number], -math.inf)
            q = (q + content).to(k.dtype)
            out = F.scaled_dot_product_attention(q, k, v, bias.to(k.dtype), dropout_p=self.dropout)
            heard.append(out.transpose(1, 2).flatten(2).to(q_TD.dtype))
        return packing.restore(heard)

    def _heads(self, x: Tensor) -> Tensor:
        """(n, L, D) → (n, H, L, N)."""
        return x.view(*x.shape[:2], self.config.heads, self.config.head_width).transpose(1, 2)

    def _remembered(self, block: Block, memory_XD: Tensor, laid: Tensor) -> Tensor:
        """(n, L, D) of a block, each sequence's memory put before it → (n, M + L, D)."""
        if not self.memory:
            return laid
        if block.slots is None:
            first = block.start + torch.arange(block.count, device=laid.device) * block.length
        else:
            first = block.slots.view(block.count, block.length)[:, 0]
        memory = memory_XD.view(-1, self.memory, memory_XD.shape[1])[self.packing.sequence_T[first]]
        return torch.cat([memory, laid], dim=1)

    def _out_of_reach(self, length: int) -> Tensor:
        """(L, K) bool: keys that follow the query or, under `same_length`, stand `config.memory` or more before it."""
        query = torch.arange(self.memory, self.memory + length, device=self.packing.device)
        distance = query[:, None] - torch.arange(self.memory + length, device=self.packing.device)
        hidden = distance < 0
        return hidden | (distance >= self.config.memory) if self.config.same_length else hidden


def check_memory(config: EncoderConfig, memory: Sequence[Tensor], packing: Packing) -> None:
    """Raise a ValueError unless memory is none at all, or (S, M, D) for each layer of position "xl"."""
    if not memory:
        return
    if config.position != "xl":
        raise ValueError(f"memory needs position 'xl', not '{config.position}'")
    shapes = {tuple(x.shape) for x in memory}
    wanted = (len(packing), memory[0].shape[1] if memory[0].dim() == 3 else "M", config.width)
    if len(memory) != config.layers or shapes != {wanted}:
        found = f"{len(memory)} of {', '.join(map(str, sorted(shapes)))}"
        raise ValueError(f"memory is {found}; it must be {config.layers} of {wanted}, one a layer")


def remember(states: Sequence[Tensor], memory: Sequence[Tensor], packing: Packing, most: int) -> list[Tensor]:
    """What of each layer's input later texts will hear.

    Args:
        states: (T, D) of each layer.
        memory: (S, M, D) of each layer, what was remembered until now.
        most: pieces to remember.

    Returns:
        (S, M', D) a layer, without gradient: the last pieces of memory and input together. M' is `most`, or less
        where some sequence has had fewer pieces: all sequences remember equally many.
    """
    held = memory[0].shape[1] if memory else 0
    kept = min(most, held + min(packing.sizes, default=0))
    place_SK = packing.lengths[:, None] + torch.arange(-kept, 0, device=packing.device)
    sequence_S1 = torch.arange(len(packing), device=packing.device)[:, None]
    old_SK = (sequence_S1 + 1) * held + place_SK
    new_SK = len(packing) * held + packing.starts[:, None] + place_SK
    index = torch.where(place_SK < 0, old_SK, new_SK).flatten()
    out = []
    for number, state in enumerate(states):
        both = torch.cat([memory[number].flatten(0, 1).to(state.dtype), state]) if held else state
        chosen = both.detach().index_select(0, index)
        out.append(chosen.view(len(packing), kept, state.shape[1]))
    return out
