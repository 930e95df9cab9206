"""Scores against independent implementations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.tasks.scores import class_scores, entity_scores

SPANS = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.integers(7, 9), st.sampled_from("AB")), max_size=4, unique=True),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@given(st.data())
def test_entity_f1_equals_a_count_by_hand(data: st.DataObject) -> None:
    gold = data.draw(SPANS)
    given_ = data.draw(st.lists(SPANS.map(lambda s: s[0]), min_size=len(gold), max_size=len(gold)))
    right = sum(span in other for spans, other in zip(gold, given_, strict=True) for span in spans)
    wanted, found = sum(map(len, gold)), sum(map(len, given_))
    figures = entity_scores(gold, given_)
    if wanted + found:
        assert figures["f1"] == pytest.approx(2 * right / (wanted + found))
    assert figures["recall"] == pytest.approx(right / wanted if wanted else 0)
    assert figures["precision"] == pytest.approx(right / found if found else 0)


def test_a_wrong_edge_or_label_is_wrong() -> None:
    gold = [[(0, 2, "PER")]]
    assert entity_scores(gold, [[(0, 2, "PER")]])["f1"] == 1
    assert entity_scores(gold, [[(0, 3, "PER")]])["f1"] == 0
    assert entity_scores(gold, [[(0, 2, "LOC")]])["f1"] == 0


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=40))
def test_class_scores_equal_a_count_by_hand(pairs: list[tuple[str, str]]) -> None:
    gold, given_ = [a for a, _ in pairs], [b for _, b in pairs]
    figures = class_scores(gold, given_)
    assert figures["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    each = []
    for label in set(gold):
        hit = sum(a == b == label for a, b in pairs)
        each.append(2 * hit / (gold.count(label) + given_.count(label)))
    assert figures["macro_f1"] == pytest.approx(sum(each) / len(each))
