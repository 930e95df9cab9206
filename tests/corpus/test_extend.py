"""Text added to a corpus, and corpora put together, are what one build of all the text gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.corpus.texts import SENTENCES, build, paragraphs, recipe_of, write_paragraphs

from fenghuo.corpus import build as module
from fenghuo.corpus.format import read_manifest, read_shard
from fenghuo.corpus.shards import ShardSource
from fenghuo.errors import DamagedError, DataError, RecipeError, StoppedError
from fenghuo.rundir import RunDir
from fenghuo.text.vocabulary import train_vocabulary

SHARDS = {"input_mb": 0.004}


def documents(run: Path) -> list[tuple[Any, ...]]:
    """Everything that a corpus holds of each document, in order."""
    found = []
    for line in read_manifest(run / "shards")[1]:
        shard = read_shard(run / "shards" / line.file)
        cuts = np.cumsum(shard.lengths)[:-1]
        columns = [
            [part.tolist() for part in np.split(column, cuts)]
            for column in (shard.pieces, shard.word_start, shard.sentence_start)
        ]
        about = (shard.heldout.tolist(), shard.sources, shard.signatures.tolist(), shard.characters.tolist())
        found += zip(*columns, *about, strict=True)
    return found


@pytest.fixture
def made(tmp_path: Path, tokenizer_folder: Path) -> dict[str, Any]:
    """Two texts that share documents, their corpora, and the corpus of both texts."""
    texts = paragraphs(90)
    given: dict[str, Any] = {}
    for name, some in (("a", texts[:60] + texts[:5]), ("b", texts[40:])):
        path = write_paragraphs(tmp_path / f"{name}.txt", some)
        given[name] = {"path": str(path), "format": "paragraphs"}
    values = {"heldout": 0.2, "shards": SHARDS}
    for name, inputs in (("a", given["a"]), ("b", given["b"]), ("both", [given["a"], given["b"]])):
        build(tmp_path / f"corpus-{name}", recipe_of(inputs, tokenizer_folder, **values))
    return {**given, "values": values, "wanted": documents(tmp_path / "corpus-both")}


def test_text_is_added(tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any]) -> None:
    old = tmp_path / "corpus-a"
    extended = recipe_of(made["b"], tokenizer_folder, extend=[str(old)], **made["values"])
    result = build(tmp_path / "run", extended)
    assert documents(tmp_path / "run") == made["wanted"]
    assert (
        len(ShardSource(tmp_path / "run", max_pieces=9_999, split="heldout")) == result["heldout_documents"]
    )
    whole = RunDir.read_result(tmp_path / "corpus-both")
    for name in (
        "documents",
        "heldout_documents",
        "pieces",
        "characters",
        "words",
        "sentences",
        "unknown_pieces",
    ):
        assert result[name] == whole[name], name
    assert result["lengths"] == whole["lengths"]
    assert result["extended"]["documents"] == 60
    assert result["read"]["documents"] == 50
    assert result["removed"]["duplicate"]["count"] == 20
    before, after = (read_manifest(run / "shards")[1] for run in (old, tmp_path / "run"))
    assert [one.sha256 for one in after[: len(before)]] == [one.sha256 for one in before]
    assert os.path.samefile(old / "shards" / before[0].file, tmp_path / "run" / "shards" / after[0].file)
    roles = {one["role"] for one in RunDir.read_environment(tmp_path / "run")["inputs"]}
    assert roles == {"corpus", "data"}


def test_corpora_are_put_together(tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any]) -> None:
    corpora = [str(tmp_path / "corpus-a"), str(tmp_path / "corpus-b")]
    result = build(tmp_path / "run", recipe_of([], tokenizer_folder, extend=corpora, **made["values"]))
    assert documents(tmp_path / "run") == made["wanted"]
    assert result["extended"]["documents"] == result["documents"] + result["removed"]["duplicate"]["count"]
    assert result["removed"]["duplicate"]["samples"][0].startswith("第 40 篇")
    again = [str(tmp_path / "run"), str(tmp_path / "corpus-b")]
    build(tmp_path / "again", recipe_of([], tokenizer_folder, extend=again, **made["values"]))
    assert documents(tmp_path / "again") == made["wanted"]


def test_without_dedup_all_documents_stay(
    tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any]
) -> None:
    corpora = [str(tmp_path / "corpus-a"), str(tmp_path / "corpus-b")]
    values = {**made["values"], "dedup": {"exact": False}}
    build(tmp_path / "run", recipe_of([], tokenizer_folder, extend=corpora, **values))
    assert documents(tmp_path / "run") == [*documents(Path(corpora[0])), *documents(Path(corpora[1]))]


def test_what_cannot_be_linked_is_copied(
    tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    extended = recipe_of(made["b"], tokenizer_folder, extend=[str(tmp_path / "corpus-a")], **made["values"])
    build(tmp_path / "run", extended)
    assert documents(tmp_path / "run") == made["wanted"]


def test_it_goes_on_where_it_stopped(
    tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fenghuo.corpus import take

    corpora = [str(tmp_path / "corpus-a"), str(tmp_path / "corpus-b")]
    recipe = recipe_of([], tokenizer_folder, extend=corpora, **made["values"])
    real, seen = take.take_whole, []

    def stop_at_second(one: Any, target: Path) -> Any:
        seen.append(target.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(one, target)

    monkeypatch.setattr(take, "take_whole", stop_at_second)
    run = RunDir.open(tmp_path / "run", verb="corpus", recipe=recipe)
    with pytest.raises(StoppedError):
        module.run(recipe, run)
    run.close()
    build(tmp_path / "run", recipe)
    assert seen[1] == seen[2]
    assert documents(tmp_path / "run") == made["wanted"]


def test_what_does_not_fit_is_refused(tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any]) -> None:
    old, values = tmp_path / "corpus-a", made["values"]

    def attempt(corpora: list[Path], tokenizer: Path = tokenizer_folder) -> None:
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        build(out, recipe_of(made["b"], tokenizer, extend=list(map(str, corpora)), **values))

    other = tmp_path / "other"
    train_vocabulary(SENTENCES, size=200, min_frequency=1).save(other)
    with pytest.raises(DataError, match=r"corpus-a: made with the tokenizer \w+, and this recipe's is \w+"):
        attempt([old], other)
    with pytest.raises(DataError, match="named twice"):
        attempt([old, old])
    with pytest.raises(DataError, match="not the run folder of a finished corpus"):
        attempt([tmp_path / "nowhere"])
    with pytest.raises(RecipeError, match="needs an input, or two corpora"):
        recipe_of([], tokenizer_folder, extend=[str(old)])


def test_damage_is_named(tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any]) -> None:
    old = tmp_path / "corpus-a"
    recipe = recipe_of(made["b"], tokenizer_folder, extend=[str(old)], **made["values"])
    shard = next((old / "shards").glob("*.arrow"))
    data = bytearray(shard.read_bytes())
    place = data.find(np.frombuffer(read_shard(shard).pieces[:8].tobytes(), np.uint8).tobytes())
    data[place] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match=f"corpus-a/shards/{shard.name}: a damaged shard: its bytes"):
        build(tmp_path / "run", recipe)
    shard.write_bytes(bytes(data[:-9]))
    with pytest.raises(DamagedError, match=f"{shard.name}: a damaged shard"):
        build(tmp_path / "other", recipe)
    shard.unlink()
    with pytest.raises(DamagedError, match="this shard is missing"):
        build(tmp_path / "third", recipe)


def test_shards_of_before_there_were_signatures(
    tmp_path: Path, tokenizer_folder: Path, made: dict[str, Any]
) -> None:
    old = tmp_path / "corpus-a" / "shards"
    line = read_manifest(old)[1][0]
    table = pa.ipc.open_file(pa.memory_map(str(old / line.file))).read_all().drop_columns(["signature"])
    with pa.ipc.new_file(str(tmp_path / "without"), table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "without").replace(old / line.file)
    manifest = (
        (old / "manifest.json")
        .read_text()
        .replace(f'"size_bytes": {line.size_bytes}', f'"size_bytes": {(old / line.file).stat().st_size}', 1)
    )
    (old / "manifest.json").write_text(manifest)
    recipe = recipe_of(made["b"], tokenizer_folder, extend=[str(old.parent)], **made["values"])
    with pytest.raises(DataError, match="earlier version, without signatures"):
        build(tmp_path / "run", recipe)
