"""A small vocabulary that shows every case, written out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "[unused2]"),
    *"中文语言模型的很好测试一二三，。！？、（）,.!?[]()-'",
    *"abcdefghijklmnopqrstuvwxyz0123456789éａ１",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789é１"),
    *("hugging", "##face", "bert", "##ing", "mask", "A", "B", "HuggingFace", "##文"),
    *("ᄒ", "##ᅡ", "##ᆫ", "😀", "##😀"),
]


def write_vocabulary(folder: Path, pieces: list[str] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces or PIECES), encoding="utf-8")
    return folder
