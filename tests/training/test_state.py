"""Checkpoints come back whole, or are named."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from fenghuo.errors import DamagedError
from fenghuo.training.state import (
    latest_checkpoint,
    pack_state,
    read_checkpoint,
    unpack_state,
    write_checkpoint,
)


def trained(steps: int, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for number in range(steps):
        torch.manual_seed(number)
        model(torch.randn(8, 5)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_a_restored_pair_takes_the_same_next_step(tmp_path: Path) -> None:
    model, optimizer = trained(5)
    write_checkpoint(
        tmp_path, step=5, tensors=pack_state(model, optimizer), values={"cursor": [1, 2]}, keep=2
    )
    again, its_optimizer = trained(0, seed=9)
    found = read_checkpoint(tmp_path / "step-5")
    unpack_state(found.tensors, again, its_optimizer)
    assert found.values == {"cursor": [1, 2]}
    for one, its in ((model, optimizer), (again, its_optimizer)):
        torch.manual_seed(77)
        one(torch.randn(8, 5)).square().mean().backward()
        its.step()
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_was_read_outlives_its_files(tmp_path: Path) -> None:
    """Tensors come from the file where they are used, and a later checkpoint removes it."""
    model, optimizer = trained(5)
    write_checkpoint(tmp_path, step=5, tensors=pack_state(model, optimizer), values={}, keep=1)
    again, its_optimizer = trained(0, seed=9)
    unpack_state(read_checkpoint(tmp_path / "step-5").tensors, again, its_optimizer)
    file = tmp_path / "step-5" / "state.safetensors"
    with file.open("r+b") as opened:
        opened.write(bytes(file.stat().st_size))
    assert_equal(pack_state(again, its_optimizer), pack_state(model, optimizer))


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_file_of_any_writer_of_the_format_is_read(tmp_path: Path) -> None:
    """Such as earlier versions, which made the bytes in memory."""
    model, optimizer = trained(5)
    write_checkpoint(tmp_path, step=5, tensors=pack_state(model, optimizer), values={"x": 1}, keep=1)
    file = tmp_path / "step-5" / "state.safetensors"
    file.write_bytes(save(dict(reversed(pack_state(model, optimizer).items()))))
    sums = tmp_path / "step-5" / "SHA256SUMS"
    names = ("state.safetensors", "state.json")
    sums.write_text(
        "".join(f"{hashlib.sha256((tmp_path / 'step-5' / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    )
    assert_equal(read_checkpoint(tmp_path / "step-5").tensors, pack_state(model, optimizer))


def test_who_may_read_one_file_may_read_all(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, step=1, tensors={"w": torch.zeros(2)}, values={}, keep=1)
    (tmp_path / "file").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "step-1").iterdir()}
    assert modes == {(tmp_path / "file").stat().st_mode}


@pytest.mark.slow
def test_saving_needs_no_memory_of_its_own(tmp_path: Path) -> None:
    code = """
        import resource, sys, torch
        from pathlib import Path
        from fenghuo.training.state import write_checkpoint
        def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        home = Path(sys.argv[1])
        write_checkpoint(home, step=1, tensors={"w": torch.zeros(1000)}, values={}, keep=1)
        tensors = {str(n): torch.ones(5_000_000) for n in range(10)}
        before = peak_mb()
        write_checkpoint(home, step=2, tensors=tensors, values={}, keep=1)
        print(peak_mb() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 20  # of 200 that are written


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        write_checkpoint(tmp_path, step=step, tensors={"w": torch.zeros(2)}, values={}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-3"]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["state.safetensors", "state.json", "SHA256SUMS"]), st.data())
def test_one_flipped_bit_is_noticed_and_the_one_before_is_used(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        write_checkpoint(folder, step=step, tensors={"w": torch.full((3,), float(step))}, values={}, keep=2)
    file = folder / "step-2" / name
    content = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(content))
    said: list[str] = []
    found = latest_checkpoint(folder, say=said.append)
    assert found is not None
    assert found.step == 1
    assert "step-2" in said[0]


def test_a_truncated_or_half_empty_checkpoint_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, step=4, tensors={"w": torch.zeros(2)}, values={}, keep=1)
    (tmp_path / "step-4" / "state.json").unlink()
    with pytest.raises(DamagedError, match="step-4"):
        read_checkpoint(tmp_path / "step-4")
    said: list[str] = []
    with pytest.raises(DamagedError, match=r"go on from \(.*step-4.*start anew with --overwrite"):
        latest_checkpoint(tmp_path, say=said.append)
    assert said == []
    assert latest_checkpoint(tmp_path / "elsewhere", say=said.append) is None
