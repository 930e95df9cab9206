"""Groups reach their length, and hold all there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fenghuo.text.groups import in_groups


@given(st.lists(st.integers(0, 9).map("字".__mul__)), st.integers(1, 20))
def test_groups_keep_order_and_lose_nothing(items: list[str], together: int) -> None:
    groups = list(in_groups(items, len, together))
    assert [one for group in groups for one in group] == items
    for number, group in enumerate(groups, start=1):
        assert sum(map(len, group[:-1])) < together
        assert number == len(groups) or sum(map(len, group)) >= together
