"""What a script does that makes pieces and words of a text: the heart of the work, and nothing around it.

corpus_peer.py TEXT TOKENIZER
"""

from __future__ import annotations

import sys
from pathlib import Path

import rjieba
import tokenizers

TOGETHER = 1_000  # documents


def main() -> None:
    text, folder = map(Path, sys.argv[1:])
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    waiting: list[str] = []
    pieces = words = 0
    with text.open(encoding="utf-8") as file:
        document: list[str] = []
        for line in file:
            if line.strip():
                document.append(line)
                continue
            waiting.append("".join(document))
            document = []
            if len(waiting) == TOGETHER:
                pieces += sum(
                    len(one.ids) for one in tokenizer.encode_batch(waiting, add_special_tokens=False)
                )
                words += sum(len(rjieba.cut(one)) for one in waiting)
                waiting = []
    pieces += sum(len(one.ids) for one in tokenizer.encode_batch(waiting, add_special_tokens=False))
    words += sum(len(rjieba.cut(one)) for one in waiting)
    print(f"{pieces} pieces, {words} words", file=sys.stderr)


if __name__ == "__main__":
    main()
