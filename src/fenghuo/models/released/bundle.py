"""The arrays of a TensorFlow checkpoint: what the index claims of them, held against the data files.

Source: BundleReader in tensorflow/core/util/tensor_bundle. It trusts the index more than we do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.released.bundle_index import (
    SLICE_MARK,
    TYPES,
    Entry,
    Extents,
    read_entry,
    slice_key,
    spans,
)
from fenghuo.models.released.crc32c import masked_crc32c

_MOST_DIMENSIONS = 64  # torch has no more
_MOST_BYTES = 1 << 63


def beside(prefix: Path, ending: str) -> Path:
    """The file of a checkpoint with that ending."""
    return prefix.with_name(prefix.name + ending)


class Bundle:
    """The arrays of a checkpoint. All that the index claims is checked against the files when it is made."""

    def __init__(self, prefix: Path, index: Path, shards: int, table: Mapping[bytes, bytes]) -> None:
        self._prefix, self._index, self._shards, self._table = prefix, index, shards, table
        self._sizes_bytes: dict[int, int] = {}
        self.entries: dict[str, Entry] = {}
        self.skipped: list[str] = []
        for key, value in table.items():
            if key.startswith(SLICE_MARK):  # the entry of the whole array says which slices it has
                continue
            try:
                name = key.decode()
            except UnicodeDecodeError as problem:
                raise self._wrong(repr(key), "a name that is not UTF-8") from problem
            entry = self._entry(name, value)
            if entry.kind not in TYPES:
                self.skipped.append(name)
                continue
            self.entries[name] = entry
            self._check_shape(name, entry)
            if entry.slices:
                self._check_slices(name, entry)
            else:
                self._check_place(name, entry)

    def read(self, name: str) -> Tensor:
        """One array, as new memory."""
        entry = self.entries[name]
        if not entry.slices:
            return self._read(name, entry)
        whole = torch.empty(entry.shape, dtype=entry.dtype)
        filled = torch.zeros(entry.shape, dtype=torch.bool)
        for extents, part in self._slices(name, entry):
            place = tuple(slice(start, start + length) for start, length in spans(extents, entry.shape))
            whole[place] = self._read(f"{name}, a slice", part)
            filled[place] = True
        if not filled.all():
            raise self._wrong(name, "its slices overlap, and a part of it has none")
        return whole

    def _read(self, name: str, entry: Entry) -> Tensor:
        array = torch.empty(entry.shape, dtype=entry.dtype)
        content = array.reshape(-1).view(torch.uint8).numpy()
        path = self._shard(entry.shard)
        try:
            with path.open("rb") as file:
                file.seek(entry.offset)
                read_bytes = file.readinto(content.data)
        except OSError as problem:
            raise ModelError(f"{path}: cannot be read ({problem.strerror})") from problem
        if read_bytes < entry.size_bytes:  # the file was cut after the index was read
            raise ModelError(f"{path}: {name}: {read_bytes} bytes are left of {entry.size_bytes}")
        crc = masked_crc32c(content)
        if crc != entry.crc:
            raise ModelError(
                f"{path}: {name}: damaged: its bytes have the checksum {crc:08x}, the index says {entry.crc:08x}"
            )
        if entry.dtype == torch.bool and content.max(initial=0) > 1:
            raise ModelError(f"{path}: {name}: a byte of {content.max()} where a truth value has 0 or 1")
        return array

    def _slices(self, name: str, entry: Entry) -> Iterator[tuple[Extents, Entry]]:
        for extents in entry.slices:
            value = self._table.get(slice_key(name, extents))
            if value is None:
                raise self._wrong(name, f"its slice {list(extents)} is missing")
            yield extents, self._entry(name, value)

    def _check_shape(self, name: str, entry: Entry) -> None:
        if len(entry.shape) > _MOST_DIMENSIONS:
            raise self._wrong(name, f"{len(entry.shape)} dimensions; there may be {_MOST_DIMENSIONS}")
        # Zeros count as ones: torch also fails at (2**62, 2**62, 0).
        most_bytes = math.prod(max(1, size) for size in entry.shape) * entry.dtype.itemsize
        if min(entry.shape, default=0) < 0 or most_bytes >= _MOST_BYTES:
            raise self._wrong(name, f"the shape {entry.shape} is impossible")

    def _check_place(self, name: str, entry: Entry) -> None:
        size_bytes = math.prod(entry.shape) * entry.dtype.itemsize
        if size_bytes != entry.size_bytes:
            what = f"{entry.shape} of {entry.dtype} has {size_bytes} bytes, and {entry.size_bytes} are stored"
            raise self._wrong(name, what)
        if entry.shard >= self._shards:
            raise self._wrong(name, f"lies in data file {entry.shard}, and the last is {self._shards - 1}")
        path = self._shard(entry.shard)
        if entry.shard not in self._sizes_bytes:
            try:
                self._sizes_bytes[entry.shard] = path.stat().st_size
            except OSError as problem:
                raise ModelError(f"{path} is missing; {self._index.name} is there and needs it") from problem
        end, there_bytes = entry.offset + entry.size_bytes, self._sizes_bytes[entry.shard]
        if end > there_bytes:
            raise ModelError(f"{path}: {name}: its bytes end at {end}, and the file has {there_bytes}")

    def _check_slices(self, name: str, entry: Entry) -> None:
        if len(set(entry.slices)) < len(entry.slices):
            raise self._wrong(name, "names a slice twice")
        numbers = 0
        for extents in entry.slices:
            if len(extents) != len(entry.shape):
                raise self._wrong(
                    name, f"a slice has {len(extents)} dimensions, the whole {len(entry.shape)}"
                )
            places = spans(extents, entry.shape)
            bounds = zip(places, entry.shape, strict=True)
            if any(min(start, length, size - start - length) < 0 for (start, length), size in bounds):
                raise self._wrong(name, f"its slice {list(places)} is not within {entry.shape}")
        for extents, part in self._slices(name, entry):
            shape = tuple(length for _, length in spans(extents, entry.shape))
            if (part.kind, part.shape, part.slices) != (entry.kind, shape, ()):
                what = f"a slice of shape {part.shape} and type {part.kind}, and {shape} and {entry.kind} is meant"
                raise self._wrong(name, what)
            self._check_place(f"{name}, a slice", part)
            numbers += math.prod(shape)
        if numbers != math.prod(entry.shape):
            raise self._wrong(name, f"{math.prod(entry.shape)} numbers, and {numbers} in its slices")
        # Slices might claim the same bytes: what they make must not outgrow the files.
        size_bytes, there_bytes = numbers * entry.dtype.itemsize, sum(self._sizes_bytes.values())
        if size_bytes > there_bytes:
            raise self._wrong(name, f"{size_bytes} bytes, and the data files have {there_bytes}")

    def _entry(self, name: str, value: bytes) -> Entry:
        try:
            return read_entry(value)
        except ValueError as problem:
            raise self._wrong(name, str(problem)) from problem

    def _shard(self, shard: int) -> Path:
        return beside(self._prefix, f".data-{shard:05d}-of-{self._shards:05d}")

    def _wrong(self, name: str, what: str) -> ModelError:
        return ModelError(f"{self._index}: {name}: {what}")
