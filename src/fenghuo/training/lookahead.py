"""Lookahead: k steps forward, 1 step back (Zhang et al. 2019, arXiv 1907.08610)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fenghuo.training.parallel import local


class Lookahead(torch.optim.Optimizer):
    """Slow weights that follow an inner optimizer's.

    The slow weights begin as the weights before the first step. After every `steps` inner steps they move by `rate` of
    the way to the weights, and the weights go on from there; the inner optimizer's moments stay as they are.

    What counts is the slow weights: `settled` shows the model as it would be if the run ended now, after a last move of
    the slow weights, and `settle` makes that move for good.

    The parameter groups are the inner optimizer's own, so a schedule that sets their rates sets its. The state holds,
    beside the inner one, `slow` and `since` (steps since the last move) for each parameter.
    """

    def __init__(self, inner: torch.optim.Optimizer, *, steps: int = 5, rate: float = 0.5) -> None:
        # The base class's own set-up would copy the groups, whose identity schedules and scalers rely on.
        self.inner, self.steps, self.rate = inner, steps, rate
        self.since = 0
        self.slow: dict[Tensor, Tensor] = {weight: weight.detach().clone() for weight in self._weights()}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The inner optimizer's."""
        return self.inner.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The inner optimizer's, without the slow weights."""
        return self.inner.state

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One inner step; the `steps`th moves the slow weights."""
        loss: float | None = self.inner.step(closure)
        self.since += 1
        if self.since == self.steps:
            self.settle()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The inner optimizer's."""
        self.inner.zero_grad(set_to_none)

    @torch.no_grad()
    def settle(self) -> None:
        """Move the slow weights, and put the weights where they are."""
        if not self.since:
            return
        slow, weights = self._pairs()
        torch._foreach_lerp_(slow, weights, self.rate)
        torch._foreach_copy_(weights, slow)
        self.since = 0

    @contextmanager
    def settled(self) -> Iterator[None]:
        """The weights as `settle` would leave them, for as long as the context lasts."""
        if not self.since:
            yield
            return
        with torch.no_grad():
            slow, weights = self._pairs()
            before = [weight.clone() for weight in weights]
            torch._foreach_copy_(weights, torch._foreach_lerp(slow, weights, self.rate))
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(weights, before)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's, with `slow` and `since` in the state of each parameter."""
        inner = self.inner.state_dict()
        state = {
            number: {**inner["state"].get(number, {}), "slow": slow, "since": torch.tensor(self.since)}
            for number, slow in enumerate(self.slow[weight] for weight in self._weights())
        }
        return {**inner, "state": state}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`, into the same parameters."""
        inner: dict[int, dict[str, Any]] = {}
        for number, weight in enumerate(self._weights()):
            mine = dict(state_dict["state"][number])
            self.slow[weight].copy_(mine.pop("slow"))
            self.since = int(mine.pop("since"))
            if mine:  # a parameter that never had a gradient has no inner state
                inner[number] = mine
        self.inner.load_state_dict({**state_dict, "state": inner})

    def _pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Slow weights and weights; of cut ones this rank's parts."""
        return [local(slow) for slow in self.slow.values()], [local(weight) for weight in self.slow]

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.inner.param_groups for weight in group["params"]]
