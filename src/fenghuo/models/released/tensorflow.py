"""TensorFlow's checkpoints (PREFIX.index and PREFIX.data-00000-of-00001), read and written without TensorFlow.

Such a "tensor bundle", the second version of the format, came with TensorFlow 0.12; Google's BERT, Huawei's NEZHA
and their kin were released in it. The index is a sorted table: under the empty key the header, under the name of
each variable its number type, its shape, and where in which data file its bytes lie, with their checksum.

Source: tensorflow/core/util/tensor_bundle, whose behaviour decides where the format's messages say nothing.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from fenghuo.errors import ModelError, did_you_mean
from fenghuo.models.released.bundle import Bundle, beside
from fenghuo.models.released.bundle_index import (
    HEADER_KEY,
    NUMBERS,
    SLICE_MARK,
    Entry,
    entry_bytes,
    header_bytes,
    read_header,
)
from fenghuo.models.released.crc32c import masked_crc32c
from fenghuo.models.released.stored import Stored
from fenghuo.models.released.table import is_table, read_table, table_bytes
from fenghuo.rundir import disk_error, write_atomic
from fenghuo.rundir.atomic import fsync_folder

_FILE_OF = re.compile(r"(.+)\.(?:index|meta|data-\d{5}-of-\d{5})", re.DOTALL)


def read_tensorflow(prefix: Path) -> Stored:
    """The arrays of a checkpoint: every variable in it, those of the optimizer too, under TensorFlow's names.

    A variable that was saved in slices is put together. Text and the like are in `skipped`.

    Args:
        prefix: `folder/model.ckpt`, of which `folder/model.ckpt.index` is a file; that file's path does as well.

    Raises:
        ModelError: a file is missing or cannot be read; the index is damaged or says what cannot be; the
            checkpoint is of the first version, or of a machine with the other order of bytes. Damaged numbers are
            found when an array is read: its checksum is compared then.
    """
    prefix = _prefix_of(Path(prefix))
    index = beside(prefix, ".index")
    table = read_table(index)
    if HEADER_KEY not in table:
        raise ModelError(f"{index}: a table without the header of a checkpoint")
    try:
        shards = read_header(table.pop(HEADER_KEY))
    except ValueError as problem:
        raise ModelError(f"{index}: the header: {problem}") from problem
    bundle = Bundle(prefix, index, shards, table)
    return Stored(
        path=prefix,
        format="tensorflow",
        shapes={name: entry.shape for name, entry in bundle.entries.items()},
        read=bundle.read,
        skipped=tuple(bundle.skipped),
    )


def _prefix_of(path: Path) -> Path:
    """The prefix that is meant; ModelError where there is no checkpoint of the second version."""
    part = _FILE_OF.fullmatch(path.name)
    if part is not None and not beside(path, ".index").exists():
        path = path.with_name(part[1])
    if path.name and beside(path, ".index").is_file():
        return path
    try:
        names = sorted(one.name for one in path.parent.iterdir())
        first_version = path.is_file() and is_table(path)
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read ({problem.strerror})") from problem
    if data := [name for name in names if name.startswith(f"{path.name}.data-")]:
        raise ModelError(f"{path}.index is missing; {data[0]} is there")
    if first_version:
        raise ModelError(
            f"{path}: a checkpoint of the first version, from before TensorFlow 0.12, which is not supported; "
            "have TensorFlow 1 save it again"
        )
    if path.is_dir():
        raise ModelError(f"{path}: a folder; give the checkpoint in it, such as {path / 'bert_model.ckpt'}")
    prefixes = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    raise ModelError(
        f"{path}: no checkpoint of TensorFlow: there is no {path.name}.index.{did_you_mean(path.name, prefixes)}"
    )


def write_tensorflow(prefix: Path, arrays: Mapping[str, Tensor]) -> None:
    """A checkpoint of one data file that TensorFlow reads, and `checkpoint`, its note of the folder's latest.

    An array is looked up, written and let go before the next. Files appear whole: the data, then the index, then
    the note. What a checkpoint of that name held before is lost once the data are replaced.

    Args:
        prefix: `folder/model.ckpt` makes `model.ckpt.index` and `model.ckpt.data-00000-of-00001` in `folder`.
        arrays: name → array of a number type that both sides have; on any device.

    Raises:
        ModelError: a name that the format reserves, or a number type that TensorFlow lacks.
        DiskError: the disk is full, read-only or gone.
    """
    prefix = Path(prefix)
    if not prefix.name:
        raise ModelError(f"{prefix}: a folder; give a name in it, such as {prefix / 'model.ckpt'}")
    names = sorted((name.encode(), name) for name in arrays)
    for key, name in names:
        if key == HEADER_KEY or key.startswith(SLICE_MARK):
            raise ModelError(f"{prefix}: the format has no place for an array named {name!r}")
    index, data = beside(prefix, ".index"), beside(prefix, ".data-00000-of-00001")
    # Hidden and so named, it is swept up like every leftover of a killed writer.
    unfinished = data.with_name(f".{data.name}.writing-{secrets.token_hex(4)}")
    entries = [(HEADER_KEY, header_bytes(1))]
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as file:
            for key, name in names:
                array = arrays[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
                if array.dtype not in NUMBERS:
                    raise ModelError(f"{prefix}: {name}: TensorFlow has no number type for {array.dtype}")
                content = array.reshape(-1).view(torch.uint8).numpy()
                entry = Entry(
                    kind=NUMBERS[array.dtype],
                    shape=tuple(array.shape),
                    offset=file.tell(),
                    size_bytes=content.nbytes,
                    crc=masked_crc32c(content),
                )
                file.write(content.data)
                entries.append((key, entry_bytes(entry)))
            file.flush()
            os.fsync(file.fileno())
        # An index beside data that are not its own would be told of as damage; a missing one as what it is.
        index.unlink(missing_ok=True)
        os.replace(unfinished, data)
        fsync_folder(prefix.parent)
    except OSError as error:
        raise disk_error(data, error) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
    write_atomic(index, table_bytes(entries))
    latest = "".join(
        chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in prefix.name.encode()
    )
    note = f'model_checkpoint_path: "{latest}"\nall_model_checkpoint_paths: "{latest}"\n'
    write_atomic(prefix.parent / "checkpoint", note)
