"""The first of equal documents stays, whatever the parts and the buckets."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.corpus import duplicates
from fenghuo.corpus.duplicates import mark_repeats, save_signatures
from fenghuo.corpus.signature import signature

if TYPE_CHECKING:
    from pathlib import Path


def marked(folder: Path, parts: list[list[str]]) -> list[bool]:
    signed = [folder / f"{n}.sig" for n in range(len(parts))]
    for path, texts in zip(signed, parts, strict=True):
        save_signatures(path, b"".join(map(signature, texts)))
    answers = [folder / f"{n}.rep" for n in range(len(parts))]
    count = mark_repeats(signed, answers)
    found = [bool(one) for path in answers for one in np.load(path)]
    assert count == sum(found)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("甲乙丙丁戊己庚辛"), max_size=40),
    st.lists(st.integers(0, 40), max_size=5),
    st.integers(1, 50),
)
def test_the_first_stays(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], cuts: list[int], bucket: int
) -> None:
    bounds = sorted([0, *(min(cut, len(texts)) for cut in cuts), len(texts)])
    parts = [texts[a:b] for a, b in pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "DECIDED_TOGETHER", bucket)
        patch.setattr(duplicates, "_MOST_BUCKETS", 7)
        found = marked(tmp_path_factory.mktemp("parts"), parts)
    assert found == [text in texts[:place] for place, text in enumerate(texts)]
