"""text and corpus work where torch is not installed; a recipe costs no heavy import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def loaded(code: str) -> set[str]:
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment
    )
    return set(done.stdout.split())


ROOMS = """
import importlib, pkgutil, fenghuo.text, fenghuo.corpus
for room in (fenghuo.text, fenghuo.corpus):
    for module in pkgutil.iter_modules(room.__path__):
        importlib.import_module(f"{room.__name__}.{module.name}")
"""


@pytest.mark.slow
def test_no_module_loads_torch() -> None:
    assert "torch" not in loaded(ROOMS)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("fenghuo.corpus.recipe", {"numpy", "pyarrow", "datatrove", "tokenizers"}),
        ("fenghuo.corpus.build", {"datatrove", "rjieba"}),
        ("fenghuo.corpus.read", {"pyarrow", "datatrove", "fsspec"}),
        ("fenghuo.corpus.loader", {"pyarrow", "datatrove"}),
        ("fenghuo.text.tokenizer", {"pyarrow", "rjieba"}),
    ],
)
def test_light_modules_stay_light(module: str, absent: set[str]) -> None:
    assert not loaded(f"import {module}") & absent


def test_a_shard_is_written_and_read_without_pandas(tmp_path: Path) -> None:
    """Its import would take longer than a small corpus."""
    code = f"""
import numpy as np
from pathlib import Path
from fenghuo.corpus.format import Documents, read_shard, write_shard
starts = np.ones(3, np.bool_)
given = Documents(np.arange(3), starts, starts, np.array([2, 1]), starts[:2], ["a", "b"],
                  np.zeros((2, 2), np.uint64), np.ones(2, np.uint32))
path = Path({str(tmp_path / "a.arrow")!r})
write_shard(path, [given], vocabulary_size=9, fingerprints={{}})
assert read_shard(path).pieces.tolist() == [0, 1, 2]
"""
    assert "pandas" not in loaded(code)
