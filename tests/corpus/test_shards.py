"""What is written is what is read; documents are cut where the rule says; damage is named."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.corpus.format import Documents, open_shard, write_manifest, write_shard
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.shards import ShardSource, corpus_file, corpus_tokenizer
from fenghuo.corpus.visits import Cursor
from fenghuo.errors import DamagedError, DataError
from fenghuo.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from fenghuo.corpus.batch import Packing

FINGERPRINTS = {"tokenizer": "0123456789abcdef", "segmenter": "none 0"}

# A document: its sentences, each a list of word lengths.
sentences = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=8)
corpora = st.lists(
    st.lists(st.tuples(sentences, st.booleans()), min_size=1, max_size=5), min_size=1, max_size=3
)


def documents(given: list[tuple[list[list[int]], bool]], first: int = 0) -> Documents:
    words, starts, lengths = [], [], []
    for document, _ in given:
        flat = [[index == 0 for index in range(length)] for sentence in document for length in sentence]
        words += [bit for word in flat for bit in word]
        for sentence in document:
            starts += [index == 0 for index in range(sum(sentence))]
        lengths.append(sum(map(sum, document)))
    return Documents(
        pieces=np.arange(first, first + len(words)),
        word_start=np.array(words),
        sentence_start=np.array(starts),
        lengths=np.array(lengths),
        heldout=np.array([heldout for _, heldout in given]),
        sources=["a.txt"] * len(given),
        signatures=np.arange(2 * len(given), dtype=np.uint64).reshape(-1, 2) + np.uint64(1_000 * first),
        characters=np.array(lengths, np.uint32),
    )


def corpus(folder: Path, shards: list[list[tuple[list[list[int]], bool]]], size: int = 60_000) -> Path:
    lines = []
    (folder / "shards").mkdir(parents=True)
    for number, given_documents in enumerate(shards):
        path = folder / "shards" / f"{number}.arrow"
        parts = [documents([one], 1_000 * number + 100 * k) for k, one in enumerate(given_documents)]
        lines.append(write_shard(path, parts, vocabulary_size=size, fingerprints=FINGERPRINTS))
    write_manifest(folder / "shards", lines, fingerprints=FINGERPRINTS)
    return folder


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(corpora, st.integers(1, 40))
def test_slices(
    tmp_path_factory: pytest.TempPathFactory,
    shards: list[list[tuple[list[list[int]], bool]]],
    max_pieces: int,
) -> None:
    folder = corpus(tmp_path_factory.mktemp("corpus"), shards)
    for split in ("train", "heldout"):
        source = ShardSource(folder, max_pieces=max_pieces, split=split)
        slices = [source[i] for i in range(len(source))]
        wanted = [
            (document, 1_000 * n + 100 * k)
            for n, shard in enumerate(shards)
            for k, (document, heldout) in enumerate(shard)
            if heldout == (split == "heldout")
        ]
        assert [len(one.pieces) for one in slices] == source.lengths.tolist()
        assert [one.index for one in slices] == list(range(len(slices)))
        for document, first in wanted:  # each document's slices are its pieces, in order
            whole = documents([(document, False)], first)
            mine: list[Any] = []
            while sum(len(one.pieces) for one in mine) < len(whole.pieces):
                mine.append(slices.pop(0))
            check_document(whole, mine, max_pieces)
        assert not slices


def check_document(whole: Documents, mine: list[Any], max_pieces: int) -> None:
    assert np.array_equal(np.concatenate([one.pieces for one in mine]), whole.pieces)
    assert np.array_equal(np.concatenate([one.sentence_start for one in mine]), whole.sentence_start)
    begins = np.cumsum([0, *(len(one.pieces) for one in mine)])
    for one, begin, end in zip(mine, begins, begins[1:], strict=False):
        assert 1 <= len(one.pieces) <= max_pieces
        assert one.word_start[0]
        assert np.array_equal(one.word_start[1:], whole.word_start[begin + 1 : end])
        if end == len(whole.pieces):
            continue
        reach = slice(begin + 1, begin + max_pieces + 1)
        for starts in (whole.sentence_start, whole.word_start):
            if starts[reach].any():  # cut at the last sentence in reach; if there is none, at the last word
                assert end == begin + 1 + np.flatnonzero(starts[reach])[-1]
                break
        else:
            assert end == begin + max_pieces


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(corpora, st.integers(1, 40))
def test_full_sentences(
    tmp_path_factory: pytest.TempPathFactory,
    shards: list[list[tuple[list[list[int]], bool]]],
    max_pieces: int,
) -> None:
    folder = corpus(tmp_path_factory.mktemp("corpus"), shards)
    for split in ("train", "heldout"):
        source = ShardSource(folder, max_pieces=max_pieces, split=split, packing="full-sentences")
        found = []
        for index in range(len(source)):
            one = source[index]
            assert one.word_start[0]
            assert one.document_start[0] in (False, True)
            separators = int(one.document_start[1:].sum())
            assert len(one.pieces) + separators == source.lengths[index] <= max_pieces
            starts = np.flatnonzero(one.document_start)
            assert one.sentence_start[starts].all()
            found.append((one.pieces.tolist(), starts.tolist()))
        assert found == [
            slice_ for n, shard in enumerate(shards) for slice_ in row_of(shard, n, split, max_pieces)
        ]
        assert source.pieces == source.lengths.sum()
        assert source.documents == sum((split == "heldout") == held for one in shards for _, held in one)


def row_of(
    shard: list[tuple[list[list[int]], bool]], number: int, split: str, max_pieces: int
) -> list[tuple[list[int], list[int]]]:
    """The slices of a shard's documents as one row, piece by piece: (pieces, places where a document begins)."""
    row = []  # (piece, begins a document, a sentence, a word)
    for k, (document, heldout) in enumerate(shard):
        if heldout == (split == "heldout"):
            whole = documents([(document, False)], 1_000 * number + 100 * k)
            row += [
                (int(piece), at == 0, bool(sentence), bool(word))
                for at, (piece, sentence, word) in enumerate(
                    zip(whole.pieces, whole.sentence_start, whole.word_start, strict=True)
                )
            ]
    found = []
    while row:
        room, end = max_pieces, 0
        while end < len(row) and room >= 1 + (end > 0 and row[end][1]):
            room -= 1 + (end > 0 and row[end][1])
            end += 1
        if end < len(row):  # the last sentence in reach, else the last word, else anywhere
            for edge in (2, 3):
                if starts := [at for at in range(1, end + 1) if row[at][edge]]:
                    end = starts[-1]
                    break
        found.append(([one[0] for one in row[:end]], [at for at in range(end) if row[at][1]]))
        row = row[end:]
    return found


def test_what_full_sentences_are_made_of(tmp_path: Path) -> None:
    """Of three documents the held-out one in the middle is not there; [SEP] takes a place of the budget."""
    folder = corpus(tmp_path / "run", [[([[2], [1]], False), ([[9]], True), ([[3]], False), ([[1]], False)]])
    source = ShardSource(folder, max_pieces=7, packing="full-sentences")
    assert source.lengths.tolist() == [7, 1]
    assert source[0].pieces.tolist() == [0, 1, 2, 200, 201, 202]
    assert np.flatnonzero(source[0].document_start).tolist() == [0, 3]
    assert source[1].pieces.tolist() == [300]
    assert ShardSource(folder, max_pieces=6, packing="full-sentences").lengths.tolist() == [3, 5]


def test_a_slice_knows_its_document(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "run", [[([[2, 3], [4]], False), ([[2]], False)], [([[1], [6]], False)]])
    source = ShardSource(folder, max_pieces=6)
    numbers = [source[i].document for i in range(len(source))]
    assert [numbers.index(number) for number in numbers] == [0, 0, 2, 3, 3]
    assert [bool(source[i].document_start[0]) for i in range(len(source))] == [True, False, True, True, False]


def test_a_shard_tells_what_it_is(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "run", [[([[2, 3]], False), ([[1]], True)]])
    schema = pa.ipc.open_file(pa.memory_map(str(folder / "shards" / "0.arrow"))).schema
    about = json.loads(schema.metadata[b"fenghuo"])
    assert about == {"format": 1, **FINGERPRINTS, "documents": 2, "heldout_documents": 1, "pieces": 6}
    assert open_shard(folder / "shards" / "0.arrow").pieces.dtype == np.uint16
    large = corpus(tmp_path / "large", [[([[2, 3]], False)]], size=70_000)
    shard = open_shard(large / "shards" / "0.arrow")
    assert shard.pieces.dtype == np.uint32
    assert not shard.pieces.flags.owndata
    assert not shard.pieces.flags.writeable  # the file itself, not a copy


def test_it_is_a_source_for_the_loader(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "run", [[([[2, 3], [4]], False)] * 9, [([[1]], False)] * 4])
    source = ShardSource(folder, max_pieces=5)
    loader = Loader(source, lambda one, _: {"pieces": one.pieces}, seed=0, pieces=12)
    counts = [loader.batch(Cursor(0, b))[0]["lengths"].sum() for b in range(loader.batches_per_epoch())]
    assert sum(counts) == source.lengths.sum() == 85
    with pytest.raises(IndexError):
        source[len(source)]


def test_an_example_is_read_without_its_shards_other_documents(tmp_path: Path) -> None:
    """Their offsets and held-out bits stay where they are: 0.4 and 0.01 MB here, but of each of 512 open shards."""
    many = 100_000
    ones = Documents(
        pieces=np.zeros(many, np.int64),
        word_start=np.ones(many, np.bool_),
        sentence_start=np.ones(many, np.bool_),
        lengths=np.ones(many, np.int64),
        heldout=np.arange(many) % 2 > 0,
        sources=["a.txt"] * many,
        signatures=np.zeros((many, 2), np.uint64),
        characters=np.ones(many, np.uint32),
    )
    (tmp_path / "run" / "shards").mkdir(parents=True)
    path = tmp_path / "run" / "shards" / "0.arrow"
    line = write_shard(path, [ones], vocabulary_size=9, fingerprints=FINGERPRINTS)
    write_manifest(path.parent, [line], fingerprints=FINGERPRINTS)
    packing: Packing
    for packing in ("doc-sentences", "full-sentences"):
        source = ShardSource(tmp_path / "run", max_pieces=5, packing=packing)
        assert source[0].index == 0  # what is imported on the way
        tracemalloc.start()
        again = ShardSource(tmp_path / "run", max_pieces=5, packing=packing)
        begin_bytes = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert again[len(again) - 1].index == len(again) - 1
        most_bytes = tracemalloc.get_traced_memory()[1] - begin_bytes
        tracemalloc.stop()
        assert most_bytes < 10_000


def test_an_empty_split(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "run", [[([[2]], False)]])
    assert len(ShardSource(folder, max_pieces=5, split="heldout")) == 0


def test_a_tokenizer_that_is_not_the_shards_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = corpus(tmp_path / "run", [[([[2]], False)]])
    tokenizer.save(folder / "tokenizer")
    with pytest.raises(DamagedError, match="not the one the shards were made with"):
        corpus_tokenizer(folder)
    about = json.loads(corpus_file(folder).read_text())
    corpus_file(folder).write_text(json.dumps({**about, "tokenizer": tokenizer.fingerprint}))
    assert corpus_tokenizer(folder).fingerprint == tokenizer.fingerprint


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip, "its bytes are not those"), (truncate, "bytes where"), (remove, "is missing")],
)
@pytest.mark.parametrize("seen_before", [True, False])
def test_a_damaged_shard_is_named(damage, message: str, seen_before: bool, tmp_path: Path) -> None:
    folder = corpus(tmp_path / "run", [[([[2, 3], [4]], False)]] * 3)
    if seen_before:
        ShardSource(folder, max_pieces=5)
    damage(folder / "shards" / "1.arrow")
    with pytest.raises(DamagedError, match=message) as caught:
        ShardSource(folder, max_pieces=5)
    assert "1.arrow" in str(caught.value)


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the run folder of a finished corpus"):
        ShardSource(tmp_path / "nowhere", max_pieces=5)
    folder = corpus(tmp_path / "run", [[([[2]], False)]])
    corpus_file(folder).write_text("{")
    with pytest.raises(DamagedError, match=r"manifest.json: cannot be read"):
        ShardSource(folder, max_pieces=5)
    corpus_file(folder).write_text('{"format": 99}')
    with pytest.raises(DataError, match="shards of format 99; this version reads 1"):
        ShardSource(folder, max_pieces=5)
    with pytest.raises(ValueError, match="no room"):
        ShardSource(folder, max_pieces=0)


@pytest.mark.parametrize("packing", ["doc-sentences", "full-sentences"])
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_another_process_has_the_same_examples(tmp_path: Path, packing: Any, split: Any) -> None:
    sentences = [[2, 1], [3], [1, 1]]  # the pieces of each word
    run = corpus(tmp_path / "run", [[(sentences, False), (sentences, True), (sentences[:1], False)]])
    source = ShardSource(run, max_pieces=7, split=split, packing=packing)
    sent = pickle.loads(pickle.dumps(source))
    assert len(sent) == len(source) > 0
    for one, other in zip(source, sent, strict=True):
        assert np.array_equal(one.pieces, other.pieces)
        assert np.array_equal(one.document_start, other.document_start)
