"""A corpus's section shows every figure once, and nothing of the text as markup."""

from __future__ import annotations

from typing import Any

from fenghuo.report.corpus import SHOWN, corpus_section

EVIL = "<script>alert(1)</script>&\"'"


def result(**more: Any) -> dict[str, Any]:
    count = {"count": 25, "characters": 4_321, "samples": [EVIL, "样本"]}
    return {
        "role": "corpus",
        "documents": 1_000,
        "characters": 123_456,
        "pieces": 99_999,
        "bad_lines": 7,
        "read": {"documents": 2_000, "characters": 234_567},
        "lengths": {"pieces": {"1": 0, "2-3": 250, "4-7": 750, "8-15": 0}, "sentences": {"1": 1_000}},
        "removed": {"near_duplicate": count},
        "mended": {"boilerplate_lines": count},
        "near_duplicates": {
            "clusters": 12,
            "sizes": {"2": 9, "9": 2, "15": 1},
            "samples": [
                [{"file": EVIL, "line": 3, "text": EVIL}, {"file": "b.txt", "line": 8, "text": "近似"}]
            ],
        },
        "evaluation": [
            {
                **{"file": EVIL, "rows": 500, "long_enough": 400, "found": 30, "documents": 44},
                "samples": [{"file": EVIL, "line": 17, "documents": 4, "text": EVIL}],
            }
        ],
        **more,
    }


def test_every_figure_is_there() -> None:
    page = corpus_section(result())
    for wanted in (
        "1,000",
        "of 2,000 read",
        "123,456",
        "2–3",
        "750",
        "near duplicate",
        "1.25%",
        "4,321",
        "样本",
    ):
        assert wanted in page
    for wanted in ("12 clusters", "b.txt:8", "近似", "8–15", "line 17, 4 documents", "400", "44"):
        assert wanted in page
    assert page.count("1.25%") == 1  # lines that were mended are no share of the documents


def test_text_is_no_markup() -> None:
    page = corpus_section(result())
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5


def test_a_result_without_the_new_figures() -> None:
    page = corpus_section({"documents": 3, "removed": {}, "mended": {}})
    assert "3" in page
    assert "<h4>" not in page


def test_what_is_shown_is_named() -> None:
    assert set(SHOWN) <= set(result())
