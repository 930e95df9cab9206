"""Archives: what people download is unpacked, and nothing lands where it should not."""

from __future__ import annotations

import gzip
import io
import lzma
import resource
import shutil
import stat
import tarfile
import zipfile
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.errors import ModelError
from fenghuo.models.released import archive as archive_module
from fenghuo.models.released.archive import is_archive, unpacked

FILES = {
    "bert/config.json": b"{}",
    "bert/vocab.txt": b"a\nb\n",
    "bert/model.safetensors": bytes(range(256)) * 20,
}
KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


def pack(path, files):
    """An archive of [(name, bytes)] or {name: bytes}, whatever the names."""
    items = list(files.items()) if isinstance(files, dict) else files
    if path.name.endswith("zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in items:
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return path
    mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(path.name.rpartition(".")[2], "w")
    with tarfile.open(path, mode) as archive:
        for name, data in items:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_of_an_archive_is_there_until_the_block_ends(tmp_path, kind):
    path = pack(tmp_path / f"x.{kind}", {"outer/" + name: data for name, data in FILES.items()})
    assert is_archive(path)
    with unpacked(path) as folder:
        assert folder.name == "bert"
        found = {f"bert/{file.name}": file.read_bytes() for file in folder.iterdir()}
        assert all(not file.stat().st_mode & 0o111 for file in folder.iterdir())
    assert found == FILES
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_macos_adds_is_left_out(tmp_path, kind):
    litter = {
        "__MACOSX/bert/._config.json": b"x",
        "bert/._vocab.txt": b"x",
        ".DS_Store": b"x",
        "./._bert": b"x",
    }
    with unpacked(pack(tmp_path / f"x.{kind}", litter | FILES)) as folder:
        assert sorted(file.name for file in folder.iterdir()) == [
            "config.json",
            "model.safetensors",
            "vocab.txt",
        ]


def test_files_without_a_folder_of_their_own_are_a_model(tmp_path):
    with unpacked(pack(tmp_path / "x.zip", {"model.bin": b"x"})) as folder:
        assert [file.name for file in folder.iterdir()] == ["model.bin"]


def test_a_model_beside_other_folders_is_found(tmp_path):
    files = {
        "README.md": b"",
        "docs/a.txt": b"",
        "model/bert_config.json": b"",
        "model/params/w_0": bytes(30),
    }
    with unpacked(pack(tmp_path / "x.zip", files)) as folder:
        assert folder.name == "model"


def test_several_models_are_named(tmp_path):
    path = pack(tmp_path / "x.tgz", {"base/config.json": b"", "base/1/x.bin": b"", "large/config.json": b""})
    with pytest.raises(ModelError, match=r"several models.*: base, large"), unpacked(path):
        pass


def assert_refused(path, why):
    with pytest.raises(ModelError, match=why), unpacked(path):
        pass


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "c:evil", "..\\evil", "a\\..\\evil", "a//b", ".."],
)
def test_a_member_that_would_land_elsewhere_is_named(tmp_path, name, kind):
    path = pack(tmp_path / f"x.{kind}", [("ok", b"x"), (name, b"evil")])
    assert_refused(path, "would land outside")
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("second", ["a/x", "A/X", "a/x/y", "./a/x"])
def test_a_member_with_another_ones_name_is_named(tmp_path, kind, second):
    with pytest.warns() if (kind, second) == ("zip", "a/x") else nullcontext():
        path = pack(tmp_path / f"x.{kind}", [("a/x", b"1"), (second, b"2")])
    assert_refused(path, "has the name of another member")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("model.bin")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert_refused(tmp_path / "x.tar", "'model.bin' is a link or a device")


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("model.bin")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "x.zip", "'model.bin' is a link or a device")


def test_an_encrypted_member_is_named(tmp_path):
    path = pack(tmp_path / "x.zip", {"model.bin": b"x"})
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        raw[raw.index(mark) + at] |= 1
    path.write_bytes(raw)
    assert_refused(path, "'model.bin' is encrypted")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tgz", "tar.xz"])
def test_a_bomb_is_refused_before_it_is_written(tmp_path, kind):
    assert_refused(
        pack(tmp_path / f"x.{kind}", {"model.bin": bytes(150_000_000)}), "a bomb: 150,000,000 bytes"
    )


def test_more_than_the_disk_has_free_is_refused(tmp_path, monkeypatch):
    path = pack(tmp_path / "x.zip", FILES)
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda _: real._replace(free=100))
    assert_refused(path, "than the disk has room for")


def test_a_member_that_holds_more_than_it_claims_is_not_written_on(tmp_path):
    path = pack(tmp_path / "x.zip", {"model.bin": bytes(5000)})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\1\2") + 24
    raw[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(raw)
    assert_refused(path, "damaged|holds more bytes")


def test_a_header_that_claims_to_be_huge_takes_no_memory(tmp_path):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2_000_000_000
    with gzip.open(tmp_path / "x.tgz", "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(300):
            file.write(bytes(1_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(tmp_path / "x.tgz", "a header that is too large")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_was_cut_is_an_error(tmp_path, kind):
    path = pack(tmp_path / f"x.{kind}", FILES)
    raw = path.read_bytes()
    # A tar's end is two blocks of zeros and more of them: one must be gone to tell.
    last = len(raw.rstrip(b"\0")) if kind == "tar" else len(raw)
    for length in sorted(
        {0, 1, 10, last // 3, last // 2, last - 600 if kind == "tar" else last - 1, last - 100}
    ):
        path.write_bytes(raw[:length])
        assert_refused(path, "damaged|not a zip or tar")


def test_a_changed_byte_in_a_zip_is_noticed(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.bin", b"A" * 100)
    path.write_bytes(path.read_bytes().replace(b"AAAA", b"AABA", 1))
    assert_refused(path, "damaged zip")


def test_a_damaged_header_in_a_tar_is_not_taken_for_its_end(tmp_path):
    path = pack(tmp_path / "x.tar", FILES)
    path.write_bytes(path.read_bytes().replace(b"bert/vocab.txt", b"bert/vocab.tyt"))
    assert_refused(path, "damaged tar")


@pytest.mark.parametrize("older", [False, True])
def test_a_file_of_torch_is_no_archive(tmp_path, older):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pth", _use_new_zipfile_serialization=not older)
    assert not is_archive(tmp_path / "x.pth")
    assert_refused(tmp_path / "x.pth", "not a zip or tar archive")


def test_other_files_are_no_archives(tmp_path):
    for raw in (b"", bytes(2000), b"hello", gzip.compress(bytes(2000)), lzma.compress(b"x"), b"\x1f\x8bxx"):
        (tmp_path / "x").write_bytes(raw)
        assert not is_archive(tmp_path / "x")
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "none")


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
@given(data=st.data())
def test_no_damage_gives_anything_but_an_error_or_a_folder(tmp_path_factory, kind, data):
    path = pack(tmp_path_factory.mktemp("damage") / f"x.{kind}", FILES)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    try:
        with unpacked(path) as folder:
            assert folder.is_dir()
    except ModelError:
        pass
