"""Text by URL: whatever a server tells of it, all of it is read; what cannot be is one message."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile
from tests.corpus.texts import SENTENCES, build, recipe_of

from fenghuo.corpus.build import plan
from fenghuo.corpus.evaluation import read_evaluation
from fenghuo.corpus.files import cut_into_parts, find_files
from fenghuo.corpus.read import read_documents
from fenghuo.corpus.recipe import InputRecipe
from fenghuo.errors import DataError

TEXT = "".join(f"{number} {SENTENCES[number % 12]}\n" for number in range(3_000))


class Stream(AbstractBufferedFile):  # type: ignore[misc]
    """As fsspec's of HTTP without a length: it can only be read on, and ends when it ends."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, length: int = -1) -> bytes:
        data: bytes = self.file.read(length)
        return data

    def seek(self, *_: int) -> int:
        raise ValueError("Cannot seek streaming HTTP file")

    def close(self) -> None:
        self.file.close()

    def __del__(self) -> None:
        pass


class Unmeasured(MemoryFileSystem):  # type: ignore[misc]
    """Files whose length nobody tells."""

    protocol = "unmeasured"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]

    def size(self, path: str) -> None:
        return None

    def _open(self, path: str, mode: str = "rb", **given: Any) -> Any:
        file = super()._open(path, mode, **given)
        return Stream(file) if mode == "rb" else file


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("unmeasured", Unmeasured, clobber=True)
    yield
    Unmeasured.store.clear()
    MemoryFileSystem.store.clear()


def put(url: str, data: str | bytes) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    return url


def texts(path: str, **values: Any) -> list[str]:
    return [one.text for one in read_documents(InputRecipe(path=path, **values))]


@pytest.mark.usefixtures("store")
def test_a_whole_build_from_a_url(tmp_path: Path, tokenizer_folder: Path) -> None:
    url = put("memory://texts/a.txt", TEXT)
    parts = {"shards": {"input_mb": 0.05}}
    result = build(tmp_path / "run", recipe_of(url, tokenizer_folder, **parts))
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    wanted = build(tmp_path / "local", recipe_of(str(tmp_path / "a.txt"), tokenizer_folder, **parts))
    assert result["shards"] == wanted["shards"] > 1
    assert result["documents"] == wanted["documents"] == 3_000
    [told] = json.loads((tmp_path / "run" / "environment.json").read_bytes())["inputs"]
    assert told == {"role": "data", "path": "memory:///texts/a.txt", "sha256": None}


@pytest.mark.usefixtures("store")
def test_files_of_unknown_size_are_read(tmp_path: Path, tokenizer_folder: Path) -> None:
    put("unmeasured://in/a.txt", TEXT)
    put("unmeasured://in/b.jsonl", json.dumps({"text": SENTENCES[0]}))
    lines = TEXT.splitlines()
    assert texts("unmeasured://in/a.txt") == lines
    assert texts("unmeasured://in") == [*lines, SENTENCES[0]]
    assert texts("unmeasured://in/*.jsonl") == [SENTENCES[0]]
    assert texts("unmeasured://in/a.txt", format="paragraphs") == [TEXT.rstrip("\n")]
    parts = cut_into_parts(find_files([InputRecipe(path="unmeasured://in")]), None)
    assert [[one.file.path for one in part] for part in parts] == [
        ["unmeasured://in/a.txt"],
        ["unmeasured://in/b.jsonl"],
    ]
    recipe = recipe_of(
        "unmeasured://in", tokenizer_folder, decontaminate=put("unmeasured://dev.tsv", "1\t短\n")
    )
    assert "2 files of unknown size count as 64 MB" in plan(recipe)
    result = build(tmp_path / "run", recipe)
    assert result["read"]["documents"] == 3_001
    assert [row.texts for row in read_evaluation("unmeasured://dev.tsv", "auto")] == [("1", "短")]


@pytest.mark.usefixtures("store")
def test_what_can_only_be_read_on_is_no_parquet() -> None:
    put("unmeasured://a.parquet", b"PAR1")
    with pytest.raises(
        DataError, match=r"a\.parquet: can only be read from beginning to end there; download it"
    ):
        texts("unmeasured://a.parquet")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/a.txt", "s3://bucket/a.txt: Install s3fs to access S3"),
        ("foo://a.txt", "foo://a.txt: Protocol not known: foo"),
        ("memory://nowhere/a.txt", "memory://nowhere/a.txt: no such file"),
    ],
)
def test_mistakes_are_told(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    with pytest.raises(DataError) as told:
        texts(url)
    assert (str(told.value), told.value.exit_code) == (said, 2)


class Server(BaseHTTPRequestHandler):
    """Sends all of a file, whatever part is asked for; with its length, or without."""

    def __init__(self, *given: Any, data: bytes, tells_length: bool) -> None:
        self.data, self.tells_length = data, tells_length
        super().__init__(*given)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        if self.tells_length:
            self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        with suppress(ConnectionError):  # it has read enough
            self.wfile.write(self.data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("tells_length", [True, False])
def test_servers_that_do_not_send_parts(tells_length: bool) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads HTTP with aiohttp and requests")
    pytest.importorskip("requests")
    data = (TEXT * 60).encode()  # more than fsspec asks for at once
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Server, data=data, tells_length=tells_length)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            found = texts(f"http://127.0.0.1:{server.server_port}/a.txt")
        finally:
            server.shutdown()
    assert found == (TEXT * 60).splitlines()
