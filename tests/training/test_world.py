"""Which device a process takes."""

from __future__ import annotations

import pytest
import torch

from fenghuo.errors import RecipeError
from fenghuo.training.world import alone, together


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cards torch sees, and then the numbers of those that were taken."""
    seen = [0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen[0])
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    return seen


def test_without_a_card(cards: list[int]) -> None:
    assert alone("auto").device == alone("cpu").device == torch.device("cpu")
    with pytest.raises(RecipeError, match=r"train.device: cuda, but torch sees 0 CUDA cards"):
        alone("cuda")


def test_with_a_card(cards: list[int]) -> None:
    cards[0] = 1
    assert alone("cpu").device == torch.device("cpu")
    assert alone("auto").device == alone("cuda").device == torch.device("cuda", 0)
    with together("auto") as world:
        assert (world.rank, world.size, world.device) == (0, 1, torch.device("cuda", 0))
    assert cards[1:] == [0, 0, 0]


def test_ranks_take_cards_all_or_none(cards: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    cards[0] = 1
    assert alone("auto").device == torch.device("cpu")  # rank 0 must not take the one that there is
    with pytest.raises(RecipeError, match=r"1 CUDA cards for 2 process"):
        alone("cuda")
    cards[0] = 2
    assert alone("auto").device == torch.device("cuda", 1)
