"""What computes the logits: onnxruntime (int8 or fp32), or torch where a folder was not exported.

Shapes: B batch, L length, C classes or tags.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from fenghuo.cores import usable_cores
from fenghuo.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BackendName = Literal["int8", "onnx", "torch"]
FILES: dict[BackendName, str] = {
    "int8": "onnx/model_quantized.onnx",
    "onnx": "onnx/model.onnx",
    "torch": "model.safetensors",
}
"""In the order `auto` tries them: the fastest first."""


class Backend(Protocol):
    """A model that is ready to be called, from any thread."""

    name: BackendName
    threads: int

    def logits(
        self, ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64], segments_BL: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """(B, C) or (B, L, C)."""
        ...


def load_backend(
    folder: Path, *, backend: Literal["auto", "int8", "onnx", "torch"] = "auto", threads: int | None = None
) -> Backend:
    """Load the file that `backend` names, or the fastest there is.

    Args:
        threads: of one call; absent: the cores this process may use.

    Raises:
        ModelError: the file is missing or damaged.
    """
    wanted: tuple[BackendName, ...] = tuple(FILES) if backend == "auto" else (backend,)
    name = next((name for name in wanted if (folder / FILES[name]).is_file()), None)
    if name is None:
        files = " nor ".join(FILES[name] for name in wanted)
        way_out = {"int8": "quantize", "onnx": "export"}.get(backend)
        raise ModelError(
            f"{folder}: no {files} in it." + (f" `fenghuo {way_out}` makes it" if way_out else "")
        )
    if name == "torch":
        return TorchBackend(folder, threads=threads)
    return OnnxBackend(folder / FILES[name], name=name, threads=threads)


class OnnxBackend:
    """One onnxruntime session; inputs and output are named as `fenghuo export` names them."""

    def __init__(self, path: Path, *, name: BackendName = "onnx", threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as problem:
            raise MissingExtraError("onnxruntime", "serve") from problem
        self.name: BackendName = name
        self.threads = threads or usable_cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # warnings speak of graph internals nobody here can act on
        # A waiting thread that spins takes the core from the tokenizer and the web server beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (
            Exception
        ) as problem:  # onnxruntime has one exception class a status code, without a common base
            raise ModelError(f"{path}: onnxruntime cannot read it: {problem}") from problem
        self._inputs = {given.name for given in self._session.get_inputs()}
        outputs = [made.name for made in self._session.get_outputs()]
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if not self._inputs <= known or "logits" not in outputs:
            raise ModelError(
                f"{path}: takes {', '.join(sorted(self._inputs))} and gives {', '.join(outputs)}, "
                f"where {', '.join(sorted(known))} → logits was wanted; `fenghuo export` makes such a file"
            )

    def logits(
        self, ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64], segments_BL: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `Backend`."""
        given = {"input_ids": ids_BL, "attention_mask": mask_BL, "token_type_ids": segments_BL}
        (found,) = self._session.run(["logits"], {name: given[name] for name in self._inputs})
        logits: NDArray[np.float32] = found
        return logits


class TorchBackend:
    """The folder's own weights. `threads` holds for the whole process, as torch has it."""

    name: BackendName = "torch"

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        try:
            import torch
        except ImportError as problem:
            raise ModelError(
                f"{folder}: not exported, and torch is not installed to run it as it is. "
                "`fenghuo export` it where torch is, or pip install 'fenghuo[train]'"
            ) from problem
        from fenghuo.models.folder import load_model

        if threads is not None:
            torch.set_num_threads(threads)
        self.threads = torch.get_num_threads()
        self._torch, self._model = torch, load_model(folder)

    def logits(
        self, ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64], segments_BL: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `Backend`."""
        with self._torch.inference_mode():
            tensors = [self._torch.from_numpy(given) for given in (ids_BL, mask_BL, segments_BL)]
            found: Any = self._model(*tensors).logits
            logits: NDArray[np.float32] = found.float().numpy()
            return logits
