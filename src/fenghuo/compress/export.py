"""A model folder → `onnx/model.onnx`, checked against torch on ragged batches of every length before it is written."""

# Shapes: B batch, L length, C classes or tags, D width, V vocabulary.
from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fenghuo.compress.onnx_call import INPUTS, Arrays, call, open_session, pad, quiet
from fenghuo.errors import MissingExtraError, ModelError, RunError
from fenghuo.models.folder import load_model
from fenghuo.models.start import model_folder, task_block_of, weights_file
from fenghuo.net.model import Model
from fenghuo.progress import say
from fenghuo.rundir import folder_atomic, sha256_of, write_atomic
from fenghuo.text.tokenizer import Tokenizer, frame

try:
    import onnx
    import onnxscript  # noqa: F401  torch.onnx needs it, and says so less clearly
except ImportError as problem:
    raise MissingExtraError(str(problem.name), "export") from problem

FILE = "onnx/model.onnx"
QUANTIZED_FILE = "onnx/model_quantized.onnx"
TOLERANCE = 1e-4
"""Largest difference from torch that is put down to the order of additions."""
LARGEST_BYTES = 2**31 - 2**20
"""A protobuf file ends at 2 GiB."""
WEIGHTS_KEY = "fenghuo.weights_sha256"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was made, and how far it is from torch."""

    path: Path
    bytes: int
    max_difference: float
    """Largest difference of a logit."""
    batches: int
    """Compared, of lengths 1 to the longest the model reads."""


class _Padded(nn.Module):
    """The padded call with the inputs and the one output of an exported file."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        output = self.model.forward_padded(input_ids, attention_mask, token_type_ids)
        return output.last_hidden_state if output.logits is None else output.logits


def export(model: str | Path, format: Literal["onnx"] = "onnx", out: Path | None = None) -> Exported:
    """Write `onnx/model.onnx` into a model folder, or into a copy of it.

    The file takes `input_ids`, `attention_mask` and `token_type_ids`, (B, L) int64, and gives `logits`: (B, C)
    classes, (B, L, C) tags or (B, L, V) of an MLM head; an encoder without a head gives `last_hidden_state`.
    B and L are dynamic; padding stands on the right.

    Args:
        model: a model folder or a run folder.
        format: what to make; one so far.
        out: a folder to make; absent: the model folder itself, where the service looks.

    Raises:
        ModelError: not a model folder, a model no ONNX file can hold, or a file that does not agree with torch.
        RunError: there is something in `out`.
    """
    folder = model_folder(Path(model))
    say(f"exporting {folder}")  # torch takes half a minute over it, without a word
    if out is None:
        done = write_onnx(folder, folder)
        # It was made from weights that may no longer be these, and would be the first to answer.
        (folder / QUANTIZED_FILE).unlink(missing_ok=True)
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out}: there is something in it; --out is a folder to make")
        with folder_atomic(out) as new:
            copy_model(folder, new)
            done = write_onnx(folder, new)
        done = Exported(
            path=out / FILE, bytes=done.bytes, max_difference=done.max_difference, batches=done.batches
        )
    say(
        f"{done.path}: {done.bytes / 1e6:.1f} MB; {done.batches} batches differ from torch by at most "
        f"{done.max_difference:.1e}"
    )
    return done


def copy_model(folder: Path, new: Path) -> None:
    """Everything of a model folder but what was exported from it."""
    try:
        shutil.copytree(folder, new, dirs_exist_ok=True, ignore=shutil.ignore_patterns("onnx", ".*"))
    except shutil.Error as problem:
        # It goes on after a file that failed, and then tells of all, as text.
        full = os.strerror(errno.ENOSPC)
        if full in str(problem):
            raise OSError(errno.ENOSPC, full) from problem
        raise


def write_onnx(folder: Path, new: Path) -> Exported:
    """Export the model in `folder` to `new / FILE`, once it agrees with torch."""
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    if size > LARGEST_BYTES:
        raise ModelError(f"{folder}: {size / 1e9:.1f} GB of weights, more than one ONNX file can hold (2 GB)")
    proto = to_onnx(model)
    proto.metadata_props.add(key=WEIGHTS_KEY, value=sha256_of(weights_file(folder)))
    data = proto.SerializeToString()
    difference, batches = _compare(model, open_session(data), _probes(tokenizer, _longest(model, folder)))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{folder}: the exported model differs from torch by {difference:.2g}, where {TOLERANCE:g} is "
            "allowed; nothing was written"
        )
    write_atomic(new / FILE, data)
    return Exported(path=new / FILE, bytes=len(data), max_difference=difference, batches=batches)


def is_current(folder: Path) -> bool:
    """Whether the folder's ONNX file was made from its weights."""
    path = folder / FILE
    if not path.is_file():
        return False
    known = {one.key: one.value for one in onnx.load(path).metadata_props}
    return known.get(WEIGHTS_KEY) == sha256_of(weights_file(folder))


def to_onnx(model: Model) -> Any:
    """The model as an ONNX graph with dynamic batch and length, without a trace of the machine it was made on."""
    length = {0: "batch", 1: "length"}
    # Sizes of 1 would be taken for constants, and one tensor given twice for one input.
    example = tuple(torch.ones(2, 7, dtype=torch.long) for _ in INPUTS)
    headless = model.head is None and model.mlm is None
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Padded(model).eval(),
                example,
                dynamo=True,
                verbose=False,
                input_names=list(INPUTS),
                output_names=["last_hidden_state" if headless else "logits"],
                dynamic_shapes=[length] * len(INPUTS),
            )
    except Exception as problem:  # the exporter wraps whatever happens in classes of its own
        raise ModelError(f"torch cannot export this model: {problem}") from problem
    assert program is not None
    proto = program.model_proto
    del proto.graph.value_info[:]  # inferred again by whoever needs it; some of it confuses the quantizer
    for node in proto.graph.node:
        del node.metadata_props[:]  # stack traces, with the paths of this machine
    return proto


def _longest(model: Model, folder: Path) -> int:
    task = task_block_of(folder)
    # RoBERTa's first two rows are no places of a text.
    rows = model.config.max_length - model.config.first_position
    return min(int(task["max_length"]) if task else 512, rows)


def _probes(tokenizer: Tokenizer, longest: int) -> Iterator[Arrays]:
    """Framed random texts and pairs: single ones, and ragged batches; lengths about every turn the graph can take
    (one piece, NEZHA's clip at 64, the longest)."""
    rng, vocabulary = np.random.default_rng(0), tokenizer.vocabulary

    def framed(length: int) -> tuple[Any, Any]:
        first, second = rng.choice(vocabulary.replaceable, (2, length))
        room = max(length, vocabulary.specials(pair=True))
        ids, segments = frame(vocabulary, first, second if length % 2 else None, max_length=room)
        return ids[:length], segments[:length]

    lengths = [length for length in (1, 2, 3, 17, 64, 65, 66, 67, 128, 200, longest) if length <= longest]
    for length in lengths:
        yield pad([framed(length)], vocabulary.pad)
        yield pad([framed(length), framed(max(1, length // 2)), framed(1)], vocabulary.pad)
    yield pad([framed(length) for length in rng.permutation(lengths)], vocabulary.pad)


def _compare(model: Model, session: Any, probes: Iterator[Arrays]) -> tuple[float, int]:
    """Largest difference where pieces are, and the number of batches. NaN stays NaN."""
    worst, batches = 0.0, 0
    for inputs in probes:
        with torch.inference_mode():
            output = model(*(torch.from_numpy(inputs[name]) for name in INPUTS))
        wanted = (output.last_hidden_state if output.logits is None else output.logits).numpy()
        found = call(session, inputs)
        difference = np.abs(wanted - found)
        if difference.ndim == 3:
            difference = difference[inputs["attention_mask"] == 1]
        worst = float(np.maximum(worst, difference.max()))
        batches += 1
    return worst, batches
