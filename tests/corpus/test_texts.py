"""What is kept between two passes comes back as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text

from fenghuo.corpus import texts
from fenghuo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

documents = st.lists(
    st.builds(
        texts.Text,
        odd_text,
        st.text(max_size=3),
        st.integers(0, 9),
        st.integers(1, 9),
        st.sampled_from([b"", b"\x00\xff" * 8]),
    ),
    max_size=9,
)


def written(path: Path, given: Iterable[texts.Text]) -> Path:
    with texts.Writer(path) as writer:
        for one in given:
            writer.add(one)
    return path


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(0, 40))
def test_it_comes_back(tmp_path_factory: pytest.TempPathFactory, given: Any, together: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "_TOGETHER", together)
        path = written(tmp_path_factory.mktemp("texts") / "a.zst", given)
    assert list(texts.read(path)) == given


def test_whole_or_absent(tmp_path: Path) -> None:
    def given() -> Iterator[texts.Text]:
        yield texts.Text("一", "a.txt", 0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "a.zst", given())
    assert not any(tmp_path.iterdir())


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zst", [texts.Text("一二三" * 1000, "a.txt", 0, 1)])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"a\.zst"):
        list(texts.read(path))
