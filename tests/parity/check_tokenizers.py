"""Load tokenizers that fenghuo saved with transformers' AutoTokenizer, and compare pieces, places and framing.

    .venv-reference/bin/python tests/parity/check_tokenizers.py DIR

DIR holds folders with `texts.json`: what fenghuo made of some texts. Knows nothing of fenghuo. The last line of its
output is JSON: {"version", "checked": {folder: texts}, "refused": {folder: message}}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import transformers


def check(folder: Path) -> int:
    """Every text of the folder; how many there were."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast, type(tokenizer)
    rows: list[dict[str, Any]] = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    for row in rows:
        alone = tokenizer(row["text"], add_special_tokens=False, return_offsets_mapping=True)
        assert alone["input_ids"] == row["ids"], (folder.name, row["text"])
        if "places" in row:
            assert [list(place) for place in alone["offset_mapping"]] == row["places"], (
                folder.name,
                row["text"],
            )
        for pair, wanted in ((None, row["framed"]), (row["text_pair"], row["framed_pair"])):
            found = tokenizer(
                row["text"], pair, truncation=True, max_length=row["max_length"], return_token_type_ids=True
            )
            assert found["input_ids"] == wanted["ids"], (folder.name, row["text"], pair)
            assert found["token_type_ids"] == wanted["segments"], (folder.name, row["text"], pair)
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(tokenizer, f"{name}_token_id") == rows[0]["specials"][name], (folder.name, name)
    return len(rows)


def main() -> None:
    checked, refused = {}, {}
    for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
        if (folder / "texts.json").is_file():
            checked[folder.name] = check(folder)
            continue
        try:  # nothing here reads these files; transformers may, where their own libraries are installed
            transformers.AutoTokenizer.from_pretrained(folder)
            refused[folder.name] = ""
        except Exception as problem:  # whatever it is, it is reported, with what came before it
            told: list[BaseException] = [problem]
            while (before := told[-1].__context__) is not None:
                told.append(before)
            refused[folder.name] = "; ".join(f"{type(x).__name__}: {x}" for x in reversed(told))
    print(json.dumps({"version": transformers.__version__, "checked": checked, "refused": refused}))


if __name__ == "__main__":
    main()
