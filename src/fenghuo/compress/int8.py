"""An ONNX graph with fp32 weights → one with int8 weights.

Dynamic quantization (onnxruntime): weights of linear layers are stored as int8, with a scale an output channel;
activations are rounded to 8 bits while the model runs, with one scale a call. The word table, half of a small
model, is stored as int8 with a scale a piece. Layer norms, softmax and the products inside attention (queries
with keys, with NEZHA's distances, and weights with values) have no stored weights and stay fp32.
"""

# Shapes: V vocabulary, D width.
from __future__ import annotations

import errno
import os
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from fenghuo.compress.onnx_call import quiet
from fenghuo.errors import MissingExtraError, ModelError
from fenghuo.rundir import disk_error

try:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
except ImportError as problem:
    raise MissingExtraError(str(problem.name), "export") from problem

VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def needs_reduced_range(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor adds products of 8-bit numbers in 16 bits, where they may overflow.

    x86 before VNNI does, so weights keep to 7 bits there; the accuracy lost otherwise is silent and large
    (onnxruntime #5644). ARM and VNNI add in 32 bits.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:  # not Linux: the safe answer
        return True
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not VNNI & set(flags.split())


def quantize(path: Path, *, reduce_range: bool) -> Any:
    """An exported file → its int8 twin, as a graph.

    Raises:
        ModelError: onnxruntime cannot quantize it.
        DiskError: no room for temporary files, which take about three times its size.
    """
    model = onnx.load(path)
    _quantize_word_table(model)
    with tempfile.TemporaryDirectory() as scratch, quiet():
        before, after = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        try:
            onnx.save(model, before)
            quantize_dynamic(
                before,
                after,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=reduce_range,
                weight_type=QuantType.QInt8,
            )
        except Exception as problem:  # onnxruntime and onnx have several classes, without a common base
            # They write on when the disk is full, and stumble over what they then read.
            if shutil.disk_usage(scratch).free < path.stat().st_size:
                raise disk_error(Path(scratch), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from problem
            raise ModelError(f"onnxruntime cannot quantize this model: {problem}") from problem
        return onnx.load(after)


def _quantize_word_table(model: Any) -> None:
    """Replace the look-up of `input_ids` by one of int8 rows, each multiplied by its own scale.

    onnxruntime would give the whole table one scale, decided by its largest number, and 7 bits where the range
    is reduced, although nothing is added up here.
    """
    graph = model.graph
    tables = {tensor.name: tensor for tensor in graph.initializer}
    place = next((at for at, one in enumerate(graph.node) if _looks_up(one, tables)), None)
    if place is None:
        raise ModelError("the exported graph has no word table that input_ids look up")
    node = graph.node[place]
    name, out = node.input[0], node.output[0]
    table_VD = onnx.numpy_helper.to_array(tables[name])
    scale_V1 = np.maximum(np.abs(table_VD).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / 127
    rounded_VD = np.rint(table_VD / scale_V1).astype(np.int8)
    graph.initializer.append(onnx.numpy_helper.from_array(rounded_VD, f"{name}_int8"))
    graph.initializer.append(onnx.numpy_helper.from_array(scale_V1.astype(np.float32), f"{name}_scale"))
    make = onnx.helper.make_node
    rows, cast, scales = (f"{out}_row_{what}" for what in ("int8", "cast", "scale"))
    # `{out}_scale` is what onnxruntime calls the scale of an activation, which albert_zh's words are.
    nodes = [
        make("Gather", [f"{name}_int8", "input_ids"], [rows], name=f"{node.name}_rows"),
        make("Cast", [rows], [cast], name=f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
        make("Gather", [f"{name}_scale", "input_ids"], [scales], name=f"{node.name}_scales"),
        make("Mul", [cast, scales], [out], name=f"{node.name}_dequantize"),
    ]
    graph.node.remove(node)
    for offset, one in enumerate(nodes):
        graph.node.insert(place + offset, one)
    if not any(name in one.input for one in graph.node):  # an MLM head shares it
        graph.initializer.remove(tables[name])


def _looks_up(node: Any, tables: Container[str]) -> bool:
    return bool(node.op_type == "Gather" and node.input[1] == "input_ids" and node.input[0] in tables)


def operators(model: Any) -> dict[str, int]:
    """How many matrix products of a graph are int8, and how many stayed fp32 (those inside attention)."""
    counts = Counter(node.op_type for node in model.graph.node)
    return {
        "int8": counts["MatMulInteger"],
        "fp32": counts["MatMul"] + counts["Gemm"] + counts["Einsum"],
    }
