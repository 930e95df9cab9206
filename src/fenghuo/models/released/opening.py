"""Any file, prefix or folder of weights → named arrays, by its looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fenghuo.errors import ModelError
from fenghuo.models.released.archive import is_archive
from fenghuo.models.released.huggingface import read_checkpoint, read_folder, read_index, read_safetensors
from fenghuo.models.released.paddle import read_paddle
from fenghuo.models.released.persistable import MARK
from fenghuo.models.released.pytorch import read_pytorch
from fenghuo.models.released.stored import Stored

_BY_SUFFIX: dict[str, Callable[[Path], Stored]] = {
    ".safetensors": read_safetensors,
    ".pdparams": read_paddle,
    ".pdiparams": read_paddle,
    ".bin": read_pytorch,
    ".pt": read_pytorch,
    ".pth": read_pytorch,
    ".index": read_checkpoint,
}
_DATA_OF_CHECKPOINT = re.compile(r".+\.data-\d{5}-of-\d{5}")
# What torch.save's older form begins with: its magic number as a pickle.
_PYTORCH_MARK = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def open_stored(path: Path) -> Stored:
    """The named arrays of what a user names: a file, the prefix of a TensorFlow checkpoint, or a model's folder.

    Its suffix tells how to read it; where that says nothing, its first bytes.

    Raises:
        ModelError: absent, an archive (`unpacked` opens one), of no known kind, or what the reader raises.
    """
    if path.is_dir():
        return read_folder(path)
    if path.name.endswith(".index.json"):
        return read_index(path)
    if path.suffix in _BY_SUFFIX and path.is_file():
        return _BY_SUFFIX[path.suffix](path)
    if path.with_name(f"{path.name}.index").is_file() or _DATA_OF_CHECKPOINT.fullmatch(path.name):
        return read_checkpoint(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file, folder or checkpoint")
    if is_archive(path):
        raise ModelError(f"{path}: an archive, which must be unpacked first")
    return _by_first_bytes(path)(path)


def _by_first_bytes(path: Path) -> Callable[[Path], Stored]:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read ({problem})") from problem
    if head.startswith((b"PK\3\4", _PYTORCH_MARK)):
        return read_pytorch
    if head.startswith((b"\x80", MARK)):
        return read_paddle
    if head[8:9] == b"{":
        return read_safetensors
    raise ModelError(f"{path}: not weights of PyTorch, Paddle or TensorFlow, nor safetensors")
