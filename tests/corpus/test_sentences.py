"""Sentences begin where a reader would say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fenghuo.corpus.sentences import sentence_starts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("一句。两句！三句？四句", ["一句。", "两句！", "三句？", "四句"]),
        ("他说：“走吧。”然后走了。", ["他说：“走吧。”", "然后走了。"]),
        ("真的吗？！真的……好", ["真的吗？！", "真的……", "好"]),
        ("一行\n\n两行", ["一行\n\n", "两行"]),
        ("约3.14米。e.g. this one. Next one. 中文", ["约3.14米。", "e.g. this one. ", "Next one. ", "中文"]),
        ("", []),
    ],
)
def test_sentences(text: str, wanted: list[str]) -> None:
    places = np.array([i for i, c in enumerate(text) if not c.isspace()], np.int32)
    first = [*places[sentence_starts(places, text)].tolist(), len(text)]
    assert [text[a:b] for a, b in pairwise(first)] == wanted
