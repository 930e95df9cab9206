"""One made-up model folder a task kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.serve.made_models import make_folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """kind → model folder; nobody changes them."""
    root = tmp_path_factory.mktemp("models")
    return {kind: make_folder(root / kind, kind) for kind in ("classify", "pair", "regress", "tag")}
