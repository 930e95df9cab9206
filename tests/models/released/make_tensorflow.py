"""Checkpoints that TensorFlow itself wrote, and TensorFlow's word on those that we write.

    python tests/models/released/make_tensorflow.py                                   # makes fixtures/tensorflow
    python tests/models/released/make_tensorflow.py --check PREFIX --values F.safetensors

Made with TensorFlow 2.21.0 (CPU, Python 3.11.7) and safetensors 0.8.0; no test needs either of them to read the
fixtures. It runs in an environment of its own: `pip install tensorflow-cpu==2.21.0 safetensors`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import tensorflow as tf
from safetensors import safe_open
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parent / "fixtures" / "tensorflow"
tf1 = tf.compat.v1


def draw(shape, dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(dtype)


def bert() -> dict[str, np.ndarray]:
    """A tiny BERT's names, with Adam's slots and the step."""
    shapes = {
        "bert/embeddings/word_embeddings": (11, 8),
        "bert/embeddings/LayerNorm/gamma": (8,),
        "bert/embeddings/LayerNorm/beta": (8,),
        "bert/encoder/layer_0/attention/self/query/kernel": (8, 8),
        "bert/encoder/layer_0/attention/self/query/bias": (8,),
        "bert/encoder/layer_0/intermediate/dense/kernel": (8, 12),
        "bert/encoder/layer_0/intermediate/dense/bias": (12,),
        "bert/pooler/dense/kernel": (8, 8),
        "cls/predictions/output_bias": (11,),
        "cls/seq_relationship/output_weights": (2, 8),
    }
    values = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        for slot in ("", "/adam_m", "/adam_v"):
            values[name + slot] = draw(shape, seed=3 * seed + len(slot))
    values["global_step"] = np.array(1_000_000_007, np.int64)
    return values


def kinds() -> dict[str, np.ndarray]:
    """Every number type that has an array on both sides, and odd shapes."""
    whole = np.array([0, 1, 2, 100, 127])
    values = {f"whole/{kind}": whole.astype(kind) for kind in ("uint8", "uint16", "uint32", "uint64")}
    values |= {f"whole/{kind}": (whole - 64).astype(kind) for kind in ("int8", "int16", "int32", "int64")}
    values |= {f"real/{kind}": draw((3, 2), kind) for kind in ("float16", "float32", "float64")}
    values["real/bfloat16"] = draw((3, 2), ml_dtypes.bfloat16)
    values["complex"] = (draw((3,)) + 1j * draw((3,), seed=1)).astype(np.complex64)
    values["truth"] = np.array([True, False, True])
    values["odd/scalar"] = np.array(-0.0, np.float32)
    values["odd/empty"] = np.zeros((0, 3), np.float32)
    values["odd/special"] = np.array([np.nan, np.inf, -np.inf, 1e-45], np.float32)
    values["odd/deep"] = draw((1, 2, 1, 3, 1, 2))
    values["odd/long"] = draw((2500,), seed=9)  # over 6777 bytes, where the quick checksum begins
    return values


def save_bert(folder: Path) -> dict[str, np.ndarray]:
    """As TensorFlow 1 saved models: a graph, a session and a Saver."""
    values = bert()
    with tf.Graph().as_default(), tf1.Session() as session:
        for name, value in values.items():
            tf1.Variable(value, name=name, dtype=value.dtype, use_resource=False)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(folder / "bert.ckpt"), write_meta_graph=False)
    return values


def save_kinds(folder: Path) -> dict[str, np.ndarray]:
    """Arrays and, beside them, text."""
    values = kinds()
    with tf.Graph().as_default(), tf1.Session() as session:
        names = [*values, "text"]
        tensors = [tf.constant(value) for value in values.values()] + [tf.constant(["风", "火"])]
        session.run(
            tf.raw_ops.SaveV2(
                prefix=str(folder / "kinds.ckpt"),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=tensors,
            )
        )
    return values


def save_shards(folder: Path) -> dict[str, np.ndarray]:
    """Two data files, made as two devices make them: each its own, and then a merger of the indices."""
    values = bert()
    halves = [list(values)[0::2], list(values)[1::2]]
    with tempfile.TemporaryDirectory() as parts:
        prefixes = [f"{parts}/part-{number}" for number in range(2)]
        with tf.Graph().as_default(), tf1.Session() as session:
            for prefix, half in zip(prefixes, halves, strict=True):
                tensors = [tf.constant(values[name]) for name in half]
                empty = [""] * len(half)
                session.run(
                    tf.raw_ops.SaveV2(
                        prefix=prefix, tensor_names=half, shape_and_slices=empty, tensors=tensors
                    )
                )
            session.run(
                tf.raw_ops.MergeV2Checkpoints(
                    checkpoint_prefixes=prefixes, destination_prefix=str(folder / "shards.ckpt")
                )
            )
    return values


def save_slices(folder: Path) -> dict[str, np.ndarray]:
    """Variables that a partitioner cut along one dimension."""
    cuts = {  # name → array, how many parts, along which dimension
        "rows": (
            draw((200, 3)),
            3,
            0,
        ),  # parts start behind 63 and 127: a number of more than one byte in a key
        "columns": (draw((2, 7), np.float16, seed=1), 2, 1),
        "whole": (draw((3,), seed=2), 1, 0),
    }

    def part_of(value):
        def initialize(shape, dtype, partition_info=None):
            offset = partition_info.var_offset if partition_info else [0] * value.ndim
            return tf.constant(
                value[tuple(slice(at, at + size) for at, size in zip(offset, shape, strict=True))]
            )

        return initialize

    with tf.Graph().as_default(), tf1.Session() as session:
        for name, (value, parts, axis) in cuts.items():
            tf1.get_variable(
                name,
                shape=value.shape,
                dtype=value.dtype,
                initializer=part_of(value),
                partitioner=tf1.fixed_size_partitioner(parts, axis=axis),
                use_resource=False,
            )
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(folder / "slices.ckpt"), write_meta_graph=False)
    return {name: value for name, (value, *_) in cuts.items()}


def save_blocks(folder: Path) -> dict[str, np.ndarray]:
    """One cut along two dimensions, with a slice that says nothing of the second, and a name with a zero byte."""
    value = draw((4, 200))
    cuts = ["0,2:0,150", "0,2:150,50", "2,2:-"]
    parts = [value[:2, :150], value[:2, 150:], value[2:]]
    with tf.Graph().as_default(), tf1.Session() as session:
        session.run(
            tf.raw_ops.SaveV2(
                prefix=str(folder / "blocks.ckpt"),
                tensor_names=["blocks/风\x00火"] * 3,
                shape_and_slices=[f"4 200 {cut}" for cut in cuts],
                tensors=[tf.constant(part) for part in parts],
            )
        )
    return {"blocks/风\x00火": value}


def make() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for maker in (save_bert, save_kinds, save_shards, save_slices, save_blocks):
        values = maker(FIXTURES)
        save_file(values, FIXTURES / f"{maker.__name__.removeprefix('save_')}.safetensors")
    (FIXTURES / "checkpoint").unlink()
    for file in FIXTURES.iterdir():
        file.chmod(0o644)


def check(prefix: Path, values: Path) -> None:
    """Let TensorFlow read a checkpoint in its two ways, and compare every bit."""
    with safe_open(values, "np") as file:  # load_file of safetensors.numpy knows no bfloat16
        wanted = {name: file.get_tensor(name) for name in list(file.keys())}
    reader = tf.train.load_checkpoint(str(prefix))
    there = reader.get_variable_to_shape_map()
    if set(there) != set(wanted):
        sys.exit(f"other names: {sorted(set(there) ^ set(wanted))}")
    for name, value in wanted.items():
        same(name, reader.get_tensor(name), value)

    with tf.Graph().as_default(), tf1.Session() as session:
        variables = {
            name: tf1.Variable(np.zeros_like(value), dtype=value.dtype, use_resource=False)
            for name, value in wanted.items()
        }
        tf1.train.Saver(variables).restore(session, str(prefix))
        for name, value in session.run(variables).items():
            same(name, value, wanted[name])
    latest = tf.train.latest_checkpoint(str(prefix.parent))
    if latest is None or Path(latest) != prefix:
        sys.exit(f"the latest checkpoint is {latest}")
    print(f"TensorFlow {tf.__version__} read {len(wanted)} arrays, all bits the same")


def same(name: str, found: np.ndarray, wanted: np.ndarray) -> None:
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape) or found.tobytes() != wanted.tobytes():
        sys.exit(f"{name}: {found.dtype} {found.shape}, and {wanted.dtype} {wanted.shape} was written")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", type=Path, metavar="PREFIX")
    parser.add_argument("--values", type=Path, metavar="FILE")
    given = parser.parse_args()
    check(given.check, given.values) if given.check else make()
