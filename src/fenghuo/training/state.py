"""Checkpoints: everything a run needs to go on in the same bits.

A checkpoint is a folder `step-N` with `state.safetensors` (weights and optimizer state), `state.json` (step, cursor,
whatever the stage keeps) and `SHA256SUMS`. It is filled beside and renamed, so a kill leaves either all of it or none.
No pickle is read or written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors
from torch import Tensor, nn

from fenghuo.errors import DamagedError
from fenghuo.rundir import folder_atomic, sha256_of, write_atomic
from fenghuo.training.parallel import cut_like, gathered

STATE = "state.safetensors"
VALUES = "state.json"
SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was read back."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def write_checkpoint(
    folder: Path, *, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], keep: int | None
) -> Path:
    """Write `folder/step-N` whole, then remove later ones and all but the newest `keep` (None: no earlier one)."""
    target = folder / f"step-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    with folder_atomic(target) as beside:
        write_atomic(
            beside / VALUES, json.dumps({"step": step, **values}, ensure_ascii=False, sort_keys=True)
        )
        # To a file, not to bytes and then to a file, which would take twice what is saved of memory.
        save_tensors({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, beside / STATE)
        shutil.copymode(beside / VALUES, beside / STATE)  # safetensors lets nobody else read
        write_atomic(
            beside / SUMS, "".join(f"{sha256_of(beside / name)}  {name}\n" for name in (STATE, VALUES))
        )
    # A higher number is damaged, or of a course that was left: it must not outlive the one just written.
    numbers = [int(path.name[5:]) for path in _numbered(folder)]
    kept = [number for number in numbers if number <= step][-(keep or 0) :]
    for number in numbers:
        if number not in kept:
            shutil.rmtree(folder / f"step-{number}")
    return target


def remove_unnamed(bests: Path, checkpoints: Path) -> None:
    """Remove the weights of best evaluations that no checkpoint names."""
    named = {_best_step(path) for path in _numbered(checkpoints)}
    for path in _numbered(bests):
        if int(path.name[5:]) not in named:
            shutil.rmtree(path)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint folder. Its tensors are read from the file where they are used.

    Raises:
        DamagedError: a file is missing or its bytes are not those that were written.
    """
    try:
        lines = (line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines())
        sums = {name: digest for digest, name in lines}
        for name in (STATE, VALUES):
            if sha256_of(folder / name) != sums.get(name):
                raise DamagedError(f"{folder / name}: the bytes differ from those that were written")
        values = json.loads((folder / VALUES).read_bytes())
        return Checkpoint(values.pop("step"), load_tensors(folder / STATE), values)
    except (OSError, ValueError, KeyError, SafetensorError) as problem:
        raise DamagedError(f"{folder}: not a whole checkpoint ({problem})") from None


def latest_checkpoint(folder: Path, *, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; each damaged one on the way is named through `say` and left alone.

    Raises:
        DamagedError: there are some, and none is whole. To begin anew would drop what was measured since.
    """
    damaged: list[str] = []
    for candidate in reversed(_numbered(folder)):
        try:
            found = read_checkpoint(candidate)
        except DamagedError as damage:
            damaged.append(str(damage))
            continue
        for one in damaged:
            say(f"damaged checkpoint skipped, going back one: {one}")
        return found
    if damaged:
        raise DamagedError(
            f"no checkpoint can be read that this run could go on from ({'; '.join(damaged)}); "
            "put back a copy of one, or start anew with --overwrite"
        )
    return None


def pack_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and optimizer state as one flat name → tensor mapping, the same for any number of ranks.

    What is cut over ranks is put together on rank 0, tensor by tensor: all ranks must call it, and on the others the
    mapping is without such tensors.
    """
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in state.items()}
    return gathered(tensors)


def unpack_state(tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The inverse of `pack_state`, into a model and an optimizer built from the same recipe."""
    weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
    model.load_state_dict({name: cut_like(weights[name], own) for name, own in model.state_dict().items()})
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, number, key = name.split("/", 2)
            own = parameters[int(number)]
            state.setdefault(int(number), {})[key] = (
                cut_like(tensor, own) if tensor.shape == own.shape else tensor
            ).clone()  # the optimizer takes it as it is, and the file may go
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _best_step(checkpoint: Path) -> int | None:
    try:
        step: int = json.loads((checkpoint / VALUES).read_bytes())["best"]["step"]
    except (OSError, ValueError, KeyError):  # damaged: never gone on from, so it keeps nothing alive
        return None
    return step


def _numbered(folder: Path) -> list[Path]:
    """`step-N` folders, oldest first."""
    found = [path for path in folder.glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))
