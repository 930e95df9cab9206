"""Options of the parity tests, and the table of differences they print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

COMMITTED = Path(__file__).parent / "golden"
DIFFERENCES: dict[tuple[str, str], float] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity")
    group.addoption("--golden", type=Path, help="folder that regenerate.py wrote; default: the committed one")
    group.addoption(
        "--reference",
        action="append",
        default=[],
        help="a Python with transformers, to load what fenghuo saves; may be given several times",
    )


def golden_folders(config: pytest.Config) -> list[Path]:
    root = config.getoption("--golden", default=None) or COMMITTED
    return sorted(path.parent for path in root.glob("*/values.safetensors"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "folder" in metafunc.fixturenames:
        folders = golden_folders(metafunc.config)
        metafunc.parametrize("folder", folders, ids=[path.name for path in folders], scope="module")
    if "reference" in metafunc.fixturenames:
        given = metafunc.config.getoption("--reference", default=[])
        skipped = pytest.mark.skip(reason="no --reference given: `make parity` gives it")
        metafunc.parametrize("reference", given or [pytest.param("", marks=skipped)])


class Golden:
    """The values of one folder, by case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: dict[str, dict[str, Tensor]] = {}
        for name, value in load_file(folder / "values.safetensors").items():
            case, key = name.split("/", 1)
            self.cases.setdefault(case, {})[key] = value if value.is_floating_point() else value.long()


@pytest.fixture(scope="module")
def golden(folder: Path) -> Golden:
    return Golden(folder)


@pytest.fixture(scope="session")
def near() -> Callable[..., None]:
    """Assert that two tensors agree, and note by how much they differ."""

    def compare(group: str, what: str, mine: Tensor, theirs: Tensor, *, within: float) -> None:
        assert mine.shape == theirs.shape, what
        worst = float((mine - theirs).detach().abs().max()) if mine.numel() else 0.0
        DIFFERENCES[group, what] = max(worst, DIFFERENCES.get((group, what), 0.0))
        torch.testing.assert_close(mine, theirs, rtol=0, atol=within, msg=lambda m: f"{group} {what}: {m}")

    return compare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not DIFFERENCES or not (config.getoption("--golden") or config.getoption("--reference")):
        return
    terminalreporter.section("largest absolute differences from the reference")
    for (group, what), worst in sorted(DIFFERENCES.items()):
        terminalreporter.write_line(f"{group:32} {what:28} {worst:.1e}")
