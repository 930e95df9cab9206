"""The padded call's input: checked, and turned into flat pieces."""

# Shapes: B rows, L columns, T flat pieces, P (query, key) pairs.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fenghuo.net.packing import Packing, pack


@dataclass(frozen=True, kw_only=True)
class PackedIds:
    """Flat ids, and how to get back: `kept_T` indexes the flattened (B, L) batch; None keeps all of it."""

    words_T: Tensor
    ids: dict[str, Tensor | None]
    packing: Packing
    kept_T: Tensor | None
    allowed_P: Tensor | None


@dataclass(frozen=True, kw_only=True)
class PaddedBatch:
    """A padded batch whose shapes fit one another."""

    words_BL: Tensor
    ids: dict[str, Tensor | None]
    """(B, L) ids of the other tables."""
    allowed: Tensor
    """(B, 1, 1, L) or (B, 1, L, L) bool: who may be heard, as attention takes it."""
    square: bool

    @classmethod
    def of(
        cls,
        input_ids: Tensor,
        mask: Tensor | None,
        others: Mapping[str, Tensor | None],
        *,
        first_position: int = 0,
    ) -> PaddedBatch:
        """Check the arguments of a padded call.

        Args:
            first_position: of the encoder's config. Above 0, places that are not given are counted as RoBERTa's code
                counts them (fairseq, `make_positions`): pieces other than the padding piece, whose number is one less
                than the first place, and which stands at that place itself.

        Raises:
            ValueError: shapes or types that do not fit.
        """
        words = _ids("input_ids", input_ids)
        if words.dim() != 2:
            raise ValueError(f"input_ids must be (B, L), not {tuple(words.shape)}")
        rows, columns = words.shape
        ids = {
            name: None if given is None else _fit(name, _ids(name, given), rows, columns)
            for name, given in others.items()
        }
        if first_position and ids["positions"] is None:
            real = (words != first_position - 1).long()
            ids["positions"] = real.cumsum(1) * real + first_position - 1
        if mask is None:
            mask = torch.ones_like(words)
        square = mask.dim() == 3
        if mask.shape != ((rows, columns, columns) if square else (rows, columns)):
            raise ValueError(
                f"attention_mask is {tuple(mask.shape)}; for input_ids {tuple(words.shape)} it must be "
                f"({rows}, {columns}) or ({rows}, {columns}, {columns})"
            )
        allowed = mask != 0
        allowed = allowed[:, None] if square else allowed[:, None, None]
        return cls(words_BL=words, ids=ids, allowed=allowed, square=square)

    def pack(self) -> PackedIds:
        """Drop what is masked. With a (B, L, L) mask that is each piece which neither hears nor is heard."""
        rows, columns = self.words_BL.shape
        kept_BL = self.allowed[:, 0].any(1)
        if self.square:
            kept_BL = kept_BL | self.allowed[:, 0].any(2)
        kept_T = None if bool(kept_BL.all()) else kept_BL.flatten().nonzero().squeeze(1)
        packing = Packing.of(kept_BL.sum(1))
        ids = {name: None if x is None else pack(x, kept_T) for name, x in self.ids.items()}
        columns_T = torch.arange(columns, device=self.words_BL.device).repeat(rows)
        columns_T = columns_T if kept_T is None else columns_T[kept_T]
        if ids["positions"] is None and kept_T is not None:
            ids["positions"] = columns_T
        allowed_P = None
        if self.square:
            query_P, key_P = packing.pairs
            allowed_P = self.allowed[packing.sequence_T[query_P], 0, columns_T[query_P], columns_T[key_P]]
        words_T = pack(self.words_BL, kept_T)
        return PackedIds(words_T=words_T, ids=ids, packing=packing, kept_T=kept_T, allowed_P=allowed_P)


def _ids(name: str, given: Tensor) -> Tensor:
    if given.is_floating_point() or given.is_complex():
        raise ValueError(f"{name} must hold integers, not {given.dtype}")
    return given.long()


def _fit(name: str, given: Tensor, rows: int, columns: int) -> Tensor:
    if given.shape != (rows, columns) and given.shape != (1, columns):
        raise ValueError(f"ids of {name} are {tuple(given.shape)}; they must be ({rows}, {columns})")
    return given.expand(rows, columns)
