"""Learning rates: pure functions of a step and of the run's length, so that a checkpoint keeps neither.

Under a time budget the run's length is what it would be at the pace so far (`course.ByClock`), and every shape here
follows the clock without knowing of it.
"""

from __future__ import annotations

import math

from fenghuo.training.recipe import ScheduleRecipe


def rate_at(step: int, total: float, recipe: ScheduleRecipe) -> float:
    """Share of the peak learning rate at `step` (1 … total), in (0, 1].

    The warm-up rises linearly and ends at 1. After it, with `left` falling from 1 to nearly 0 (the last step still
    moves):

    - linear: left. Google's BERT draws this line from the first step on, so the rate falls by the warm-up's share where
      the warm-up ends; NEZHA raises the peak so that it does not (optimization.py), which is the line here.
    - cosine: (1 - cos(pi left)) / 2. polynomial: left ** power (RoBERTa: power 1).
    - inverse_sqrt: sqrt(warm-up / step), as Vaswani et al. 2017 (arXiv 1706.03762, §5.3) and ERNIE 2.0 have it.
    - wsd: 1, then over the run's last `decay` linear or 1 - sqrt (arXiv 2405.18392, eq. 1).

    Args:
        total: steps of the run; not a whole number where it is an estimate.
    """
    warmup: float = recipe.warmup
    if warmup < 1:
        # A length that is known has a whole number of steps of warm-up.
        warmup = round(warmup * total) if isinstance(total, int) else warmup * total
    warmup = min(warmup, total)
    if step <= warmup:
        return step / max(1, warmup)
    left = 1 - (step - warmup) / (total + 1 - warmup)
    match recipe.name:
        case "constant":
            return 1.0
        case "inverse_sqrt":
            return math.sqrt(max(1, warmup) / step)
        case "linear":
            shape = left
        case "cosine":
            shape = 0.5 * (1 + math.cos(math.pi * (1 - left)))
        case "polynomial":
            shape = left**recipe.power
        case "wsd":
            still = min(1.0, (total + 1 - step) / (total + 1) / recipe.decay)
            shape = still if recipe.fall == "linear" else 1 - math.sqrt(1 - still)
    return recipe.end + (1 - recipe.end) * shape
