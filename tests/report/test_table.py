"""Straight columns, whatever stands in them."""

from hypothesis import given
from hypothesis import strategies as st

from fenghuo.report.table import Column, aligned, width

cells = st.text("ab 好，ｗé\u0301\u200b\n\x1b[1m酒", max_size=12)


def test_chinese_is_two_cells_wide():
    assert width("ab好，") == 6
    assert width("e\u0301") == 1


def test_a_small_table():
    table = aligned([Column("名"), Column("n", right=True)], [["酒店", "5"], ["a", "12"]])
    assert table == "名     n\n----  --\n酒店   5\na     12"


@given(st.lists(st.tuples(cells, cells), max_size=6))
def test_every_line_puts_the_second_column_at_the_same_cell(rows):
    marked = [(first, f"|{second}") for first, second in rows]
    lines = aligned([Column("one"), Column("|two")], marked).split("\n")
    assert len(lines) == len(rows) + 2
    starts = {width(line.split("|", 1)[0]) for line in lines if "|" in line}
    assert len(starts) == 1
    assert not any(character < " " for line in lines for character in line)
