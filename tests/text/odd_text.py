"""Text of the kind that shifts other people's offsets, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

FRAGMENTS = [
    *(
        "中",
        "文",
        "语言模型",
        "，",
        "。",
        "hugging",
        "Face",
        "BERT",
        "[MASK]",
        "[SEP",
        "]",
        " ",
        "\t",
        "\n",
        "\r",
        "\r\n",
    ),
    *("\u3000", "\x00", "\x0b", "\x85", "\ufeff", "\u200b", "\u200d", "\u200e", "\u2028", "\u00a0", "\ufffd"),
    *(
        "\ud800",
        "\udfff",
        "\ud83d",
        "e\u0301",
        "\u0301",
        "\u0323\u0301",
        "é",
        "ﬁ",
        "İ",
        "ß",
        "ς",
        "Σ",
        "한국어",
    ),
    *("ＡＢＣ", "１２", "ａ", "㍿", "①", "カタカナ", "ひら", "゛", "が", "か\u3099"),
    *(
        "😀",
        "👨\u200d👩\u200d👧",
        "🇨🇳",
        "\u263a\ufe0f",
        "𠀀",
        "\U0002b820",
        "\U0002ebf0",
        "\uf900",
        "\ue000",
        "\U000e0001",
    ),
    *(
        "x" * 101,
        "é" * 40,
        "中" * 30,
        "http://a.b/c?d=e#f",
        "a_b|c>d",
        "-",
        "...",
        "don't",
        "3.14",
        "C++",
        "T恤",
        "卡拉OK",
    ),
]

odd_text = st.lists(st.sampled_from(FRAGMENTS) | st.text(st.characters(), max_size=4), max_size=25).map(
    "".join
)
