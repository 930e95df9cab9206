"""Files that `torch.save` wrote → named arrays, without torch.load.

Both forms are read: the zip that torch writes since 1.6, and the older one, a row of pickles and then the values
(the layout is that of torch/serialization.py). Only the table of names is read at once; an array is fetched when
it is looked up, so that the state of an optimizer beside the weights costs nothing.
"""

from __future__ import annotations

import mmap
import re
import struct
import zipfile
from pathlib import Path

from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.released.arrays import NumpyArray, Place, place_of, read_place
from fenghuo.models.released.nested import find_table, settings
from fenghuo.models.released.pickled import unpickle
from fenghuo.models.released.stored import Stored
from fenghuo.models.released.strided import CALLS, Storages, Strided, checked, read_strided

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of the older form
# Of a member of a zip: a mark, then the lengths of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def read_pytorch(path: Path) -> Stored:
    """The arrays of a .bin, .pt or .pth file, by name.

    They are the file's outermost table, or that under "model", "state_dict" and the like (`find_table`); what
    stands beside it is named in `skipped`. Number types are the file's; two names of one tensor are both there,
    and prefixes such as "module." stay. Nothing of the file is executed, whatever it says (`unpickle`).

    Raises:
        ModelError: absent or damaged; a pickle that calls anything beyond tensors and plain settings; a whole
            pickled model or a TorchScript program; no table of arrays, or several; an array that claims more
            values than the file holds for it.
    """
    if not path.is_file():  # opening a pipe would wait for its other end
        raise ModelError(f"{path}: no such file")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            value = _from_zip(path, data) if data[:2] == b"PK" else _from_row(path, data)
    except (OSError, ValueError) as problem:  # ValueError: an empty file
        raise ModelError(f"{path}: cannot be read ({problem})") from problem
    if isinstance(value, Strided | NumpyArray):
        raise ModelError(f"{path}: one tensor without a name, not a table of named arrays")
    table, beside = find_table(path, value, _is_array)
    arrays = {name: _found(path, name, one) for name, one in table.items()}

    def read(name: str) -> Tensor:
        one = arrays[name]
        return read_place(path, name, one) if isinstance(one, Place) else read_strided(path, name, one)

    shapes = {name: one.shape if isinstance(one, Place) else one.size for name, one in arrays.items()}
    return Stored(
        path=path,
        format="pytorch",
        shapes=shapes,
        read=read,
        skipped=tuple(beside),
        settings=settings(beside),
    )


def _found(path: Path, name: str, array: object) -> Strided | Place:
    if isinstance(array, NumpyArray):
        return place_of(path, name, array)
    assert isinstance(array, Strided)
    return checked(path, name, array)


def _is_array(value: object) -> bool:
    return isinstance(value, Strided) or (isinstance(value, NumpyArray) and value.dtype is not None)


def _from_zip(path: Path, data: mmap.mmap) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {one.filename: one for one in archive.infolist()}
    except Exception as problem:  # zipfile fails in many ways; each means a damaged file
        raise ModelError(f"{path}: a damaged zip ({problem})") from problem
    roots = [name.removesuffix("data.pkl") for name in members if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(roots) != 1:
        raise ModelError(f"{path}: a zip that torch.save did not write")
    root = roots[0]
    if f"{root}constants.pkl" in members:
        raise ModelError(f"{path}: a TorchScript program, not a table of weights. Needed: its state_dict")
    if f"{root}byteorder" in members:
        start, length = _member(path, data, members[f"{root}byteorder"])
        if data[start : start + length] != b"little":
            raise ModelError(f"{path}: saved on a big-endian machine, which is unsupported")
    storages = Storages(path)
    start, length = _member(path, data, members[f"{root}data.pkl"])
    value, _ = unpickle(data, start, start + length, path=path, calls=CALLS, persistent=storages)
    for key, storage in storages.by_key.items():
        member = members.get(f"{root}data/{key}")
        if member is None:
            raise ModelError(f"{path}: has no member {root}data/{key}")
        storage.start, length = _member(path, data, member)
        storage.crc = member.CRC
        if length != storage.values * storage.dtype.itemsize:
            raise ModelError(f"{path}: {root}data/{key} has not the size that the file claims")
    return value


def _member(path: Path, data: mmap.mmap, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where a member's bytes start, and how many they are."""
    at = info.header_offset
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        raise ModelError(f"{path}: {info.filename!r} is compressed or encrypted; torch writes neither")
    if 0 <= at <= len(data) - _LOCAL_HEADER.size:
        mark, name, extra = _LOCAL_HEADER.unpack_from(data, at)
        start = at + _LOCAL_HEADER.size + name + extra
        if mark == b"PK\3\4" and start + info.file_size <= len(data):
            return start, info.file_size
    raise ModelError(f"{path}: a damaged zip: {info.filename!r} is not where it should be")


def _from_row(path: Path, data: mmap.mmap) -> object:
    """The older form: magic number, protocol, the machine, the value, the storages' keys, the storages."""
    storages, at, parts = Storages(path), 0, []
    for turn in range(5):
        # Only the value may name storages; a file of another kind ends here at its first pickle.
        part, at = unpickle(
            data, at, len(data), path=path, calls=CALLS, persistent=storages if turn == 3 else None
        )
        parts.append(part)
        if turn == 0 and part != MAGIC:
            raise ModelError(f"{path}: not a file that torch.save wrote")
    _, protocol, machine, value, keys = parts
    if protocol != PROTOCOL or not isinstance(machine, dict) or not isinstance(keys, list):
        raise ModelError(f"{path}: damaged, or of a form of torch.save that is unsupported")
    if machine.get("little_endian") is not True:
        raise ModelError(f"{path}: saved on a big-endian machine, which is unsupported")
    for key in keys:
        storage = storages.by_key.get(str(key))
        if storage is None or at + 8 > len(data) or storage.values != struct.unpack_from("<q", data, at)[0]:
            raise ModelError(
                f"{path}: damaged: the values of tensor storage {str(key)[:40]} are not as claimed"
            )
        storage.start = at + 8
        at = storage.start + storage.values * storage.dtype.itemsize
    if at > len(data) or any(storage.start < 0 for storage in storages.by_key.values()):
        raise ModelError(f"{path}: the file ends early")
    return value
