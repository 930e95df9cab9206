"""What the loop and a stage agree on: a batch goes in, sums over what it asks come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What one micro-batch adds up to: sums over as many things as `Learner.counts` says under the same name."""

    loss: Mapping[str, Tensor]
    """Scalars with a gradient; already weighted."""
    seen: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars to report only, such as right answers."""


class Learner(Protocol):
    """Turns a batch into sums to bring down."""

    def counts(self, batch: Arrays) -> Mapping[str, float]:
        """Number of asked things of each term, known before the model runs."""
        ...

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Sums over the asked things of this micro-batch."""
        ...
