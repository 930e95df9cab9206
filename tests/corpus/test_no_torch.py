"""text and corpus work where torch is not installed; a recipe costs no heavy import."""

from __future__ import annotations

import subprocess
import sys

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
