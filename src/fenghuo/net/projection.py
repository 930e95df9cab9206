"""Maps from a student's width to its teacher's, one a matched state; used while distilling, dropped after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Projections(nn.Module):
    """TinyBERT's W_e and W_h (arXiv 1909.10351, equations 8 and 9): one matrix a state, as its released weights have
    them (`fit_denses`), not one shared by all, as its code has it.

    Where the widths agree nothing is projected.
    """

    def __init__(self, number: int, width: int, teacher_width: int, *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.maps = nn.ParameterList()
        if width != teacher_width:
            for _ in range(number):
                weight = torch.empty(teacher_width, width)
                nn.init.normal_(weight, std=width**-0.5, generator=generator)
                self.maps.append(nn.Parameter(weight))

    def forward(self, number: int, state_TD: Tensor) -> Tensor:
        """(T, D of the student) → (T, D of the teacher) for the matched state `number`."""
        return state_TD @ self.maps[number].T if len(self.maps) else state_TD
