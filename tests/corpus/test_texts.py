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
    st.tuples(odd_text, st.fixed_dictionaries({"source": st.text(max_size=3), "line": st.integers(0, 9)})),
    max_size=9,
)


def written(path: Path, given: Iterable[tuple[str, dict[str, Any]]]) -> Path:
    with texts.Writer(path) as writer:
        for text, about in given:
            writer.add(text, about)
    return path


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(0, 40))
def test_it_comes_back(tmp_path_factory: pytest.TempPathFactory, given: Any, together: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "_TOGETHER", together)
        path = written(tmp_path_factory.mktemp("texts") / "a.zst", given)
    assert list(texts.read(path)) == given


def test_whole_or_absent(tmp_path: Path) -> None:
    def given() -> Iterator[tuple[str, dict[str, Any]]]:
        yield "一", {"line": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "a.zst", given())
    assert not any(tmp_path.iterdir())


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zst", [("一二三" * 1000, {"line": 1})])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"a\.zst"):
        list(texts.read(path))
