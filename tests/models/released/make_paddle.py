"""What Paddle itself writes, small, as fixtures; and whether Paddle reads what fenghuo writes.

    python -m venv paddle && paddle/bin/pip install paddlepaddle==3.3.1 safetensors
    paddle/bin/python tests/models/released/make_paddle.py --out tests/models/released/fixtures/paddle
    paddle/bin/python tests/models/released/make_paddle.py --check FILE_OR_FOLDER --values F.safetensors

It needs neither fenghuo nor torch. Values are bit for bit those of values.safetensors, which numpy wrote; bfloat16
stands there as 16 bits without a sign, under a name that ends in "bf16".
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
from pathlib import Path

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112  # variables in files of their own belong to the older programs

import numpy as np
import paddle
from safetensors.numpy import load_file, save_file


def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "encoder/layer_0.w_0": rng.normal(size=(3, 4)).astype("f4"),
        "encoder/layer_0.b_0": rng.normal(size=(4,)).astype("f4"),
        "half.w_0": rng.normal(size=(2, 3)).astype("f2"),
        "brain_bf16": (rng.normal(size=(2, 2)).astype("f4").view("u4") >> 16).astype("u2"),
        "counts": np.arange(5, dtype="i8"),
        "double": rng.normal(size=(2,)).astype("f8"),
        "truth": np.array([True, False]),
        "cube": rng.normal(size=(2, 1, 300)).astype(
            "f4"
        ),  # long enough to be read from the file, not at once
        "one": np.array(3.5, "f4"),
        "none": np.zeros((0, 3), "f4"),
    }


def tensor(name: str, array: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(array, dtype="bfloat16" if name.endswith("bf16") else None)


def make(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    arrays = values()
    save_file(arrays, out / "values.safetensors")
    state = {name: tensor(name, array) for name, array in arrays.items()}
    for protocol in (2, 4):
        paddle.save(state, str(out / f"protocol{protocol}.pdparams"), protocol=protocol)
    paddle.save({"model": state, "epoch": 3}, str(out / "nested.pdparams"))
    sliced(out / "sliced.pdparams")
    variables(out, arrays)


def sliced(path: Path) -> None:
    """An array in parts, as Paddle cuts one of more than 1 GiB: its own function, told of a smaller limit."""
    from paddle.framework import io_utils

    code = io_utils._unpack_saved_dict.__code__
    limits = tuple(64 if one == 2**30 - 1 else one for one in code.co_consts)
    assert limits != code.co_consts, "Paddle no longer has the limit here"
    io_utils._unpack_saved_dict.__code__ = code.replace(co_consts=limits)
    try:
        state = io_utils._unpack_saved_dict(
            {"encoder/layer_0.w_0": values()["cube"][0, 0].reshape(3, 100)}, 2
        )
    finally:
        io_utils._unpack_saved_dict.__code__ = code
    path.write_bytes(pickle.dumps(state, protocol=2))


def variables(out: Path, arrays: dict[str, np.ndarray]) -> None:
    """Files a variable, and the same in one file without names."""
    paddle.enable_static()
    program, run = paddle.static.Program(), paddle.static.Executor(paddle.CPUPlace())
    # Paddle's operator saves neither truth values nor arrays without any.
    arrays = {name: array for name, array in arrays.items() if array.size and array.dtype != bool}
    kept = [variable(program, name, array) for name, array in arrays.items()]
    for name, array in arrays.items():
        paddle.static.global_scope().var(name).get_tensor().set(array, paddle.CPUPlace())
    paddle.static.save_vars(run, str(out / "variables"), main_program=program, vars=kept)
    paddle.static.save_vars(run, str(out), main_program=program, vars=kept, filename="__params__")
    paddle.disable_static()


def check(path: Path, expected: Path) -> None:
    """Assert that Paddle reads `path` as the values in `expected`, in each way it has."""
    wanted = load_file(expected)
    compare("paddle.load", paddle.load(str(path), return_numpy=True), wanted)
    if path.is_dir():
        alone = {name: paddle.load(str(path / name)) for name in wanted}
        compare("paddle.load of each", alone, wanted)
        saved = {name: array for name, array in wanted.items() if array.size and array.dtype != bool}
        compare("paddle.static.load_vars", load_variables(path, saved), saved)
    else:
        alone = paddle.load(str(path))
    assert all(alone[name].dtype == paddle.bfloat16 for name in wanted if name.endswith("bf16"))


def compare(way: str, loaded: dict[str, object], wanted: dict[str, np.ndarray]) -> None:
    assert set(loaded) == set(wanted), (way, sorted(set(loaded) ^ set(wanted)))
    for name, array in wanted.items():
        given = np.asarray(loaded[name])
        assert given.shape == array.shape, (way, name, given.shape, array.shape)
        assert given.dtype == array.dtype, (way, name, given.dtype)
        assert given.tobytes() == array.tobytes(), (way, name)
    print(f"Paddle {paddle.__version__}: {way}: {len(wanted)} arrays, bit for bit")


def load_variables(path: Path, wanted: dict[str, np.ndarray]) -> dict[str, object]:
    """As a program of Paddle 1 did: variables that it knows, from files of their names."""
    paddle.enable_static()
    program, run = paddle.static.Program(), paddle.static.Executor(paddle.CPUPlace())
    kept = [variable(program, name, array) for name, array in wanted.items()]
    paddle.static.load_vars(run, str(path), main_program=program, vars=kept)
    scope = paddle.static.global_scope()
    loaded = {name: np.array(scope.find_var(name).get_tensor()) for name in wanted}
    paddle.disable_static()
    return loaded


def variable(program: object, name: str, array: np.ndarray) -> object:
    kind = "bfloat16" if name.endswith("bf16") else str(array.dtype)
    return program.global_block().create_var(name=name, shape=array.shape, dtype=kind, persistable=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--values", type=Path)
    args = parser.parse_args()
    if args.out:
        make(args.out)
    if args.check:
        check(args.check, args.values)
