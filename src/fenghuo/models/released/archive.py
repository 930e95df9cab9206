"""Archives, as people download models: unpacked into a folder that is gone afterwards."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fenghuo.errors import ModelError
from fenghuo.rundir import disk_error

_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_MOST_MEMBERS = 100_000
_MOST_RATIO, _FREE_OF_RATIO_BYTES = 200, 100_000_000  # weights shrink by a tenth; a row of zeros by 1,000
_CHUNK_BYTES, _MOST_TOLD_BYTES = 1 << 20, 1 << 24
_WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|pth|pdparams|index|h5|npz)|.*config.*\.json", re.IGNORECASE)
_FAILURES: tuple[type[Exception], ...] = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(ValueError, RuntimeError, LookupError),
)


def is_archive(path: Path) -> bool:
    """Whether `unpacked` opens it: a zip or a tar, but no zip of torch.save."""
    if not path.is_file():
        return False
    if zipfile.is_zipfile(path):
        return not _is_of_torch(path)
    try:
        return _is_tar(path)
    except _FAILURES:
        return False


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of the model in an archive (zip, tar, and tar in gzip, bzip2 or xz), until the block ends.

    Only plain files are written, with no rights but to read and write, into a new folder of the system's place
    for temporary files. What macOS adds is left out. The folder given is the one that holds the model: below any
    that hold nothing but one other.

    Raises:
        ModelError: no archive, or a damaged or encrypted one; a member that would land elsewhere (absolute, "..",
            a drive), is a link or a device, or has another's name; more bytes than the disk has free, or than
            honest files shrink to; several models.
        DiskError: the system refused.
    """
    if not is_archive(path):
        raise ModelError(f"{path}: not a zip or tar archive, or damaged")
    with tempfile.TemporaryDirectory(prefix="fenghuo-") as name:
        folder = _Folder(path, Path(name))
        (_unpack_zip if zipfile.is_zipfile(path) else _unpack_tar)(path, folder)
        yield _model_folder(path, folder.root)


class _Folder:
    """Where members are written, each name once, and never more bytes than were claimed."""

    def __init__(self, archive: Path, root: Path) -> None:
        self.archive, self.root = archive, root
        self.names: dict[str, str] = {}
        self.files: set[str] = set()
        self.claimed = 0
        self.free = shutil.disk_usage(root).free
        self.packed = archive.stat().st_size

    def refuse(self, member: str, why: str) -> ModelError:
        return ModelError(f"{self.archive}: {member[:200]!r} {why}; nothing of the archive was used")

    def admit(self, member: str, claimed: int, *, plain_file: bool) -> Path | None:
        """Where the member is written; None for a folder, and for what macOS adds."""
        parts = [part for part in member.rstrip("/").split("/") if part != "."]
        if member.startswith("/") or ".." in parts or "" in parts or re.search(r"[\\\0]|^[A-Za-z]:", member):
            raise self.refuse(member, "would land outside the archive's folder")
        if any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts):
            raise self.refuse(member, "has too long a name")
        self.claimed += claimed
        if len(self.names) >= _MOST_MEMBERS or claimed < 0 or self.claimed > self.free:
            raise self.refuse(member, f"makes it larger than the disk has room for ({self.claimed:,} bytes)")
        if self.claimed > max(_FREE_OF_RATIO_BYTES, _MOST_RATIO * self.packed):
            raise self.refuse(member, f"makes it a bomb: {self.claimed:,} bytes from {self.packed:,}")
        if not plain_file or "__MACOSX" in parts or parts[-1:] == [".DS_Store"] or parts[-1].startswith("._"):
            return None
        # As the disks of Windows and macOS see names: without case, accents in one way.
        key = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        above = {key[:at] for at in range(len(key)) if key[at] == "/"}
        if key in self.names or above & self.files:
            raise self.refuse(member, "has the name of another member")
        self.names[key] = member
        self.names.update((one, member) for one in above)
        self.files.add(key)
        return self.root.joinpath(*parts)

    def write(self, member: str, target: Path, source: IO[bytes], claimed: int) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except OSError as problem:
            raise disk_error(target, problem) from problem
        left = claimed
        with file:
            while chunk := source.read(min(_CHUNK_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise self.refuse(member, "holds more bytes than it claims")
                try:
                    file.write(chunk)
                except OSError as problem:
                    raise disk_error(target, problem) from problem
        if left:
            raise self.refuse(member, "ends early")


def _unpack_zip(path: Path, folder: _Folder) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for one in members:
                if one.flag_bits & 1:
                    raise folder.refuse(one.filename, "is encrypted")
                kind = stat.S_IFMT(one.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise folder.refuse(one.filename, "is a link or a device")
            # All names and sizes first: nothing is written of an archive that holds one bad member.
            targets = [
                folder.admit(one.filename, one.file_size, plain_file=not one.is_dir()) for one in members
            ]
            for one, target in zip(members, targets, strict=True):
                if target is not None:
                    with archive.open(one) as source:
                        folder.write(one.filename, target, source, one.file_size)
    except _FAILURES as problem:
        raise ModelError(f"{path}: a damaged zip ({problem})") from problem


def _unpack_tar(path: Path, folder: _Folder) -> None:
    try:
        with _open_tar(path) as source, tarfile.open(fileobj=source, mode="r:") as archive:  # type: ignore[call-overload]
            for one in archive:
                if not (one.isreg() or one.isdir()) or one.issparse():
                    raise folder.refuse(one.name, "is a link or a device")
                target = folder.admit(one.name, one.size, plain_file=one.isreg())
                if target is not None:
                    folder.write(one.name, target, archive.extractfile(one), one.size)
            # tarfile takes a damaged or missing header for the end; the true end is a block of zeros.
            if source.last != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early")
            while source.read(_CHUNK_BYTES):  # to where gzip and its like keep their check sum
                pass
    except _FAILURES as problem:
        raise ModelError(f"{path}: a damaged tar archive ({problem})") from problem


class _Bounded:
    """A stream whose reads are bounded: tarfile asks for as many bytes as an extended header claims."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.last = stream, b""
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, count: int) -> bytes:
        if count > _MOST_TOLD_BYTES:
            raise tarfile.ReadError("a header that is too large")
        self.last = self.stream.read(count)
        return self.last


@contextmanager
def _open_tar(path: Path) -> Iterator[_Bounded]:
    with path.open("rb") as file:
        head = file.read(6)
    opener = next((one for mark, one in _OPENERS.items() if head.startswith(mark)), None)
    with opener(path, "rb") if opener else path.open("rb") as stream:
        yield _Bounded(stream)


def _is_tar(path: Path) -> bool:
    with _open_tar(path) as source:
        head = source.read(tarfile.BLOCKSIZE)
    tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    return True


def _is_of_torch(path: Path) -> bool:
    """Whether a zip holds one pickle of torch.save, and everything in it stands beside that."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _FAILURES:
        return False
    return sum(re.fullmatch(r"([^/]+/)?data\.pkl", name) is not None for name in names) == 1


def _model_folder(path: Path, folder: Path) -> Path:
    entries = list(folder.iterdir())
    while len(entries) == 1 and entries[0].is_dir():
        folder = entries[0]
        entries = list(folder.iterdir())
    if any(_WEIGHTS.fullmatch(one.name) for one in entries):
        return folder
    marked = {file.parent for file in folder.rglob("*") if file.is_file() and _WEIGHTS.fullmatch(file.name)}
    models = sorted(one for one in marked if not any(above in marked for above in one.parents))
    if len(models) > 1:
        names = ", ".join(one.relative_to(folder).as_posix() for one in models[:8])
        raise ModelError(f"{path}: holds several models; unpack it and name one: {names}")
    return models[0] if models else folder
