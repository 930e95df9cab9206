"""From text to shards: what is kept, what is left out, and that neither workers nor kills change a byte."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.corpus.texts import SENTENCES, build, paragraphs, recipe_of, write_paragraphs

from fenghuo.config import build_recipe, dump_recipe
from fenghuo.corpus import build as module
from fenghuo.corpus.build import plan
from fenghuo.corpus.format import open_shard, read_manifest, read_shard, write_manifest
from fenghuo.corpus.recipe import CorpusRecipe
from fenghuo.corpus.shards import ShardSource, corpus_tokenizer
from fenghuo.errors import DataError, DiskError, FenghuoError, ModelError, RecipeError, StoppedError
from fenghuo.rundir import RunDir
from fenghuo.rundir.place import holds_records_only
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.words import RjiebaSegmenter, word_starts


def shard_bytes(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "shards").glob("*.arrow"))}


def documents(run: Path) -> list[list[int]]:
    found = []
    for line in read_manifest(run / "shards")[1]:
        shard = open_shard(run / "shards" / line.file)
        found += [piece.tolist() for piece in np.split(shard.pieces, shard.offsets[1:-1])]
    return found


def paragraph_input(path: Path) -> dict[str, str]:
    return {"path": str(path), "format": "paragraphs"}


def test_the_whole_way(tmp_path: Path, tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    texts = [["语言模型可以预测下一个词的概率！", "Linux 很好。"], ["今天的天气很好，我们去公园散步吧。"]]
    path = write_paragraphs(tmp_path / "a.txt", texts)
    result = build(tmp_path / "run", recipe_of(paragraph_input(path), tokenizer_folder, heldout=0))
    assert result["documents"] == 2
    assert result["read"] == {"documents": 2, "characters": 43}
    assert result["sentences"] == 3
    assert result["segmenter"].startswith("rjieba")
    assert not (tmp_path / "run" / ".work").exists()

    source = ShardSource(tmp_path / "run", max_pieces=60)
    assert corpus_tokenizer(tmp_path / "run").fingerprint == tokenizer.fingerprint
    for example, document in zip((source[0], source[1]), texts, strict=True):
        text = "\n".join(document)
        pieces = tokenizer.encode(text)
        assert example.pieces.tolist() == pieces.ids.tolist()
        assert example.word_start.tolist() == word_starts(pieces, RjiebaSegmenter().cut(text), text).tolist()
        assert example.sentence_start.sum() == len(document)
        assert example.sentence_start[0]


@pytest.mark.slow
def test_workers_and_parts_change_nothing(tmp_path: Path, tokenizer_folder: Path) -> None:
    texts = paragraphs(120)
    write_paragraphs(tmp_path / "in" / "a.txt", texts[:50] + texts[10:30])  # repeats within a file
    write_paragraphs(tmp_path / "in" / "b.txt", texts[40:120])  # and between files
    given = paragraph_input(tmp_path / "in")
    one = build(tmp_path / "one", recipe_of(given, tokenizer_folder, shards={"input_mb": 0.004}))
    two = build(
        tmp_path / "two",
        recipe_of(given, tokenizer_folder, shards={"input_mb": 0.004}, executor={"workers": 2}),
    )
    whole = build(tmp_path / "whole", recipe_of(given, tokenizer_folder))
    assert one["shards"] > 3
    assert whole["shards"] == 1
    assert shard_bytes(tmp_path / "one") == shard_bytes(tmp_path / "two")
    assert documents(tmp_path / "one") == documents(tmp_path / "whole")
    assert one["documents"] == 120
    assert one["removed"]["duplicate"]["count"] == 30
    timed = ("build_s", "characters_per_s")
    assert {k: v for k, v in one.items() if k not in timed} == {
        k: v for k, v in two.items() if k not in timed
    }
    sizes = {"shards", "shard_bytes"}
    assert {k: one[k] for k in one.keys() - sizes - {*timed}} == {
        k: whole[k] for k in whole.keys() - sizes - {*timed}
    }


def test_without_dedup_all_stay(tmp_path: Path, tokenizer_folder: Path) -> None:
    path = write_paragraphs(tmp_path / "a.txt", [[SENTENCES[0]], [SENTENCES[1]], [SENTENCES[0]]])
    result = build(
        tmp_path / "run", recipe_of(paragraph_input(path), tokenizer_folder, dedup={"exact": False})
    )
    assert result["documents"] == 3
    assert "duplicate" not in result["removed"]


def test_a_file_name_in_gbk(tmp_path: Path, tokenizer_folder: Path) -> None:
    """As old archives hold them; Python tells it with lone surrogates."""
    write_paragraphs(tmp_path / "in" / "a.txt", [[SENTENCES[0]], [SENTENCES[1]]])
    named = os.fsencode(tmp_path / "in") + "/语料.txt".encode("gbk")
    os.rename(tmp_path / "in" / "a.txt", named)
    result = build(tmp_path / "run", recipe_of(paragraph_input(tmp_path / "in"), tokenizer_folder))
    assert result["documents"] == 2
    known = json.loads((tmp_path / "run" / "environment.json").read_bytes())
    assert os.fsdecode(named) in json.dumps(known, ensure_ascii=False)
    (path,) = (tmp_path / "run" / "shards").glob("*.arrow")
    assert read_shard(path).sources[0].endswith(r"/\udcd3\udcef\udcc1\udccf.txt")


def test_inputs_of_every_kind_in_order(tmp_path: Path, tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    write_paragraphs(tmp_path / "a.txt", [[SENTENCES[0]], [SENTENCES[1]]])
    rows = "".join(json.dumps({"body": text}) + "\n" for text in SENTENCES[2:4])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "c.txt").write_text("\n".join(SENTENCES[4:6]), encoding="utf-8")
    inputs: list[Any] = [
        {"path": str(tmp_path / "b.jsonl.gz"), "text_key": "body"},
        str(tmp_path / "c.txt"),
        paragraph_input(tmp_path / "a.txt"),
    ]
    build(tmp_path / "run", recipe_of(inputs, tokenizer_folder))
    wanted = [*SENTENCES[2:6], *SENTENCES[:2]]
    assert documents(tmp_path / "run") == [pieces.ids.tolist() for pieces in tokenizer.encode_batch(wanted)]


def test_bad_lines_have_their_place(tmp_path: Path, tokenizer_folder: Path) -> None:
    path = tmp_path / "a.txt"
    lines = [f"{sentence}{number}".encode() for number in range(40) for sentence in SENTENCES[:3]]
    lines[7] = lines[61] = lines[119] = "坏".encode() + b"\xff\xfe" + "行".encode()
    path.write_bytes(b"\n".join(lines))
    result = build(tmp_path / "run", recipe_of(str(path), tokenizer_folder, shards={"input_mb": 0.001}))
    assert result["bad_lines"] == 3
    found = [
        json.loads(line) for line in (tmp_path / "run" / "bad_lines.jsonl").read_text("utf-8").splitlines()
    ]
    assert [(one["file"], one["line"]) for one in found] == [
        (str(path), 8),
        (str(path), 62),
        (str(path), 120),
    ]
    assert found[0]["reason"] == "not UTF-8 at byte 3 of the line"
    assert found[0]["excerpt"].startswith("坏")


def test_many_bad_lines_are_kept_on_disk_and_counted_once(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fenghuo.corpus import places

    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    good = json.dumps({"text": SENTENCES[0]}, ensure_ascii=False)
    path.write_text("\n".join([good, *(f"{{bad {number}" for number in range(2_000))]), encoding="utf-8")
    other.write_text("\n".join([good, "{bad"]), encoding="utf-8")
    looks: list[Any] = []
    real = places.count_lines
    monkeypatch.setattr(places, "count_lines", lambda part: (looks.append(part), real(part))[1])
    reports: list[list[dict[str, Any]]] = []
    add_up = module._result
    monkeypatch.setattr(module, "_result", lambda *given: (reports.append(given[0]), add_up(*given))[1])
    # The same file twice: each has its own places.
    recipe = recipe_of([str(path), str(other), str(path)], tokenizer_folder, shards={"input_mb": 0.002})
    result = build(tmp_path / "run", recipe)
    assert result["bad_lines"] == 4_001
    found = [
        json.loads(line) for line in (tmp_path / "run" / "bad_lines.jsonl").read_text("utf-8").splitlines()
    ]
    of_a = [(str(path), number) for number in range(2, 2_002)]
    assert [(one["file"], one["line"]) for one in found] == [*of_a, (str(other), 2), *of_a]
    assert found[0]["excerpt"] == "{bad 0"
    assert len(looks) == len(set(looks)) > 3
    assert max(len(json.dumps(report)) for report in reports[0]) < 1_500


def test_what_is_left_out_is_counted(tmp_path: Path, tokenizer_folder: Path) -> None:
    path = tmp_path / "a.txt"
    lines = [
        SENTENCES[0],
        "短",
        "哈" * 300,
        "https://a.cn/b",
        SENTENCES[0].replace("。", " !"),
        "带\u200b零宽字符的句子",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    result = build(tmp_path / "run", recipe_of(str(path), tokenizer_folder))
    assert {rule: count["count"] for rule, count in result["removed"].items()} == {
        **{"too_short": 1, "repetitive": 1, "nothing_left": 1, "duplicate": 1}
    }
    assert {rule: count["count"] for rule, count in result["mended"].items()} == {
        "boilerplate_lines": 1,
        "controls": 1,
    }
    assert result["documents"] + sum(count["count"] for count in result["removed"].values()) == 6
    assert result["removed"]["too_short"]["samples"] == ["短"]


def test_heldout_is_chosen_by_the_text(tmp_path: Path, tokenizer_folder: Path) -> None:
    texts = paragraphs(300)
    runs = []
    for name, given in (("one", texts), ("two", texts[::-1])):
        path = write_paragraphs(tmp_path / f"{name}.txt", given)
        recipe = recipe_of(paragraph_input(path), tokenizer_folder, heldout=0.2)
        result = build(tmp_path / name, recipe)
        assert 35 < result["heldout_documents"] < 85
        kept = ShardSource(tmp_path / name, max_pieces=10_000, split="heldout")
        runs.append({tuple(kept[i].pieces) for i in range(len(kept))})
        assert len(kept) + len(ShardSource(tmp_path / name, max_pieces=10_000)) == 300
    assert runs[0] == runs[1]


def test_a_special_name_in_the_text_is_text(
    tmp_path: Path, tokenizer_folder: Path, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("这里写着 [MASK] 和 [SEP] 两个词", encoding="utf-8")
    build(tmp_path / "run", recipe_of(str(path), tokenizer_folder))
    [pieces] = documents(tmp_path / "run")
    assert not {tokenizer.vocabulary.mask, tokenizer.vocabulary.sep} & set(pieces)


def test_it_goes_on_where_it_stopped(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(80))
    recipe = recipe_of(paragraph_input(path), tokenizer_folder, shards={"input_mb": 0.004})
    wanted = build(tmp_path / "straight", recipe)
    from fenghuo.corpus import steps

    real = steps.write_shard
    written: list[str] = []

    def stop_at_third(file: Path, *args: Any, **kwargs: Any) -> Any:
        written.append(file.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        return real(file, *args, **kwargs)

    monkeypatch.setattr(steps, "write_shard", stop_at_third)
    run = RunDir.open(tmp_path / "cut", verb="corpus", recipe=recipe)
    with pytest.raises(StoppedError, match="the same command goes on"):
        module.run(recipe, run)
    run.close()
    result = build(tmp_path / "cut", recipe)
    assert written[2] == written[3]  # the third part again, and neither of the first two
    assert len(written) == wanted["shards"] + 1
    assert shard_bytes(tmp_path / "cut") == shard_bytes(tmp_path / "straight")
    timed = ("build_s", "characters_per_s")
    assert {k: v for k, v in result.items() if k not in timed} == {
        k: v for k, v in wanted.items() if k not in timed
    }


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("torn", [True, False])
def test_a_decision_on_repeats_goes_on_after_a_kill(
    exact: bool, torn: bool, tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "".join(SENTENCES[:6])
    path = tmp_path / "a.txt"
    path.write_text("\n".join([long, long[:-2] + "了", SENTENCES[7], SENTENCES[8], SENTENCES[7]]), "utf-8")
    recipe = recipe_of(
        str(path), tokenizer_folder, dedup={"exact": exact, "near": {}}, shards={"input_mb": 0.0003}
    )
    wanted = build(tmp_path / "straight", recipe)
    assert wanted["removed"]["near_duplicate"]["count"] == 2 - exact
    real = module.mark_near_repeats

    def kill_after(keys: list[Path], repeats: list[Path]) -> None:
        real(keys, repeats)
        if torn:
            repeats[0].write_bytes(repeats[0].read_bytes()[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "mark_near_repeats", kill_after)
    with pytest.raises(StoppedError):
        build(tmp_path / "cut", recipe)
    monkeypatch.setattr(module, "mark_near_repeats", real)
    assert build(tmp_path / "cut", recipe)["removed"] == wanted["removed"]
    assert shard_bytes(tmp_path / "cut") == shard_bytes(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_nothing_running_and_changes_nothing(
    end: int, tmp_path: Path, tokenizer_folder: Path
) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(1_500))
    recipe = recipe_of(
        paragraph_input(path), tokenizer_folder, shards={"input_mb": 0.04}, executor={"workers": 2}
    )
    build(tmp_path / "straight", recipe)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    code = f"""
from pathlib import Path
from fenghuo.config import read_recipe
from fenghuo.corpus.build import run
from fenghuo.corpus.recipe import CorpusRecipe
from fenghuo.rundir import RunDir
if __name__ == "__main__":
    recipe = read_recipe(CorpusRecipe, Path({str(tmp_path / "recipe.yaml")!r}), {{}})
    run(recipe, RunDir.open(Path({str(tmp_path / "cut")!r}), verb="corpus", recipe=recipe))
"""
    (tmp_path / "go.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "go.py")],
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    reports = tmp_path / "cut" / ".work" / "write-reports"
    while child.poll() is None and len(list(reports.glob("*.json"))) < 2:
        time.sleep(0.01)
    child.send_signal(end)
    _, said = child.communicate(timeout=60)
    assert child.returncode != 0, said
    if end == signal.SIGTERM:
        assert b"StoppedError" in said
    deadline = time.monotonic() + 20
    while _session_members(child.pid):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.1)
    build(tmp_path / "cut", recipe)
    assert shard_bytes(tmp_path / "cut") == shard_bytes(tmp_path / "straight")


def _session_members(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_worker_that_dies_is_told(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the system kills it for want of memory: datatrove's own pool would wait for ever."""
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(40))
    recipe = recipe_of(
        paragraph_input(path), tokenizer_folder, shards={"input_mb": 0.002}, executor={"workers": 2}
    )
    from fenghuo.corpus import executor

    monkeypatch.setattr(executor, "run_task", _die)
    run = RunDir.open(tmp_path / "run", verb="corpus", recipe=recipe)
    with pytest.raises(FenghuoError, match="a worker process died"):
        module.run(recipe, run)
    run.close()
    monkeypatch.undo()
    fewer = recipe.model_copy(update={"executor": recipe.executor.model_copy(update={"workers": 1})})
    assert build(tmp_path / "run", fewer)["documents"] == 40  # as the message says


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_changed_input_starts_anew(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(30))
    recipe = recipe_of(paragraph_input(path), tokenizer_folder)
    from fenghuo.corpus import duplicates

    monkeypatch.setattr(module, "mark_repeats", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    run = RunDir.open(tmp_path / "run", verb="corpus", recipe=recipe)
    with pytest.raises(StoppedError):
        module.run(recipe, run)
    run.close()
    monkeypatch.setattr(module, "mark_repeats", duplicates.mark_repeats)
    write_paragraphs(path, paragraphs(20, seed=1))
    with pytest.raises(FenghuoError, match="changed since this run began"):
        build(tmp_path / "run", recipe)


@pytest.mark.parametrize("where", ["write_shard", "save_signatures"])
def test_a_full_disk(
    where: str, tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(10))
    from fenghuo.corpus import steps

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(steps, where, full)
    with pytest.raises(DiskError, match="No space left on device"):
        build(tmp_path / "run", recipe_of(paragraph_input(path), tokenizer_folder))


def test_nothing_left(tmp_path: Path, tokenizer_folder: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("短\n短\n  \n", encoding="utf-8")
    with pytest.raises(DataError, match="no document is left of 2: 2 too short"):
        build(tmp_path / "run", recipe_of(str(path), tokenizer_folder))
    assert holds_records_only(tmp_path / "run"), "so that the command line can empty it for other input"


def test_documents_without_a_piece_are_left_out_and_counted(tmp_path: Path, tokenizer_folder: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ue000\ue001\ue002\n今天的天气很好。\n\u0301\u0301\n\ue003\ue003\n", encoding="utf-8")
    clean = {"boilerplate": False, "min_characters": 1}
    result = build(tmp_path / "run", recipe_of(str(path), tokenizer_folder, heldout=0, clean=clean))
    assert result["documents"] == 1
    assert result["characters"] == 8
    assert result["removed"]["no_pieces"]["count"] == 3
    source = ShardSource(tmp_path / "run", max_pieces=60)
    assert [len(source[index].pieces) for index in range(len(source))] == [8]
    path.write_text("\ue000\ue001\n", encoding="utf-8")
    with pytest.raises(DataError, match="no document is left of 1: 1 no pieces"):
        build(tmp_path / "none", recipe_of(str(path), tokenizer_folder, clean=clean))


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_is_held_back_from_workers_from_their_first_instant() -> None:
    code = (
        "import signal; from fenghuo.corpus.executor import workers\n"
        "with workers(2) as pool: print(pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result())\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert told.stdout == "{<Signals.SIGINT: 2>}\nset()\n"


def test_mistakes_before_any_work(tmp_path: Path, tokenizer_folder: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        build(tmp_path / "run", recipe_of(str(tmp_path / "nowhere"), tokenizer_folder))
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(3))
    with pytest.raises(ModelError, match="no such file"):
        build(tmp_path / "other", recipe_of(str(path), tmp_path / "no-tokenizer"))


@pytest.mark.slow
def test_the_terminal_stays_quiet(
    tmp_path: Path, tokenizer_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(30))
    parts = {"shards": {"input_mb": 0.005}, "executor": {"workers": 2}}
    build(tmp_path / "run", recipe_of(paragraph_input(path), tokenizer_folder, **parts))
    said = capfd.readouterr()
    assert said.out == ""
    told = [line for line in said.err.splitlines() if not line.startswith("corpus: ")]  # where it took long
    assert len(told) == 4  # what there is, what came of it, and lengths in two lines
    assert "datatrove" not in said.err


def test_unknown_pieces_are_told(
    tmp_path: Path, tokenizer_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join("鼉鼊鼈龞" + sentence for sentence in SENTENCES), encoding="utf-8")
    build(tmp_path / "run", recipe_of(str(path), tokenizer_folder))
    assert "of the pieces are unknown" in capfd.readouterr().err


def test_plan(tmp_path: Path, tokenizer_folder: Path) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(400))
    recipe = recipe_of(paragraph_input(path), tokenizer_folder)
    said = plan(recipe)
    assert not (tmp_path / "run").exists()
    result = build(tmp_path / "run", recipe)
    figures = {name: float(value) for value, name in module_figures(said)}
    assert figures["documents"] == pytest.approx(result["read"]["documents"], rel=0.1)
    assert figures["pieces"] == pytest.approx(result["pieces"], rel=0.1)


MISTAKES: list[tuple[dict[str, Any], type[FenghuoError], str]] = [
    ({"clean": {"languages": ["xx"]}}, RecipeError, "'xx' is no language that is known here"),
    ({"decontaminate": "missing.tsv"}, DataError, "missing.tsv: no such file"),
    ({"decontaminate": "broken.json"}, DataError, "broken.json: neither JSON nor JSON lines"),
    ({"tokenizer": "nowhere"}, ModelError, "no such file"),
    ({"input": "nowhere.txt"}, DataError, "nowhere.txt: no such file"),
    ({"extend": ["other"]}, DataError, "made with the segmenter another 1.0"),
]


@pytest.mark.parametrize(("values", "kind", "said"), MISTAKES, ids=[next(iter(one[0])) for one in MISTAKES])
def test_a_dry_run_tells_mistakes_as_the_run_does(
    values: dict[str, Any],
    kind: type[FenghuoError],
    said: str,
    tmp_path: Path,
    tokenizer_folder: Path,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_paragraphs(tmp_path / "a.txt", paragraphs(3))
    (tmp_path / "broken.json").write_text("{broken", encoding="utf-8")
    fingerprints = {"tokenizer": tokenizer.fingerprint, "segmenter": "another 1.0"}
    (tmp_path / "other" / "shards").mkdir(parents=True)
    write_manifest(tmp_path / "other" / "shards", [], fingerprints=fingerprints)
    recipe = recipe_of("a.txt", tokenizer_folder).model_dump(mode="json")
    wrong = build_recipe(CorpusRecipe, {**recipe, **values})
    with pytest.raises(kind, match=re.escape(said)):
        plan(wrong)
    with pytest.raises(kind, match=re.escape(said)):
        build(tmp_path / "run", wrong)
    assert not (tmp_path / "run" / ".work").exists()


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ({"workers": 1}, "memory: about 350 MB, 200 of them in each of 1 working processes"),
        ({"workers": 3}, "memory: about 750 MB, 200 of them in each of 3 working processes"),
        ({"kind": "slurm", "memory_gb": 3}, "memory: 3 GB are asked for each task (executor.memory_gb)"),
    ],
)
def test_the_plan_says_memory(
    executor: dict[str, Any], said: str, tmp_path: Path, tokenizer_folder: Path
) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(60))
    shards = {"input_mb": 0.001}
    assert said in plan(recipe_of(str(path), tokenizer_folder, executor=executor, shards=shards)).splitlines()


def module_figures(said: str) -> list[tuple[str, str]]:
    return [
        (value.replace(",", ""), name) for value, name in re.findall(r"([\d,]+) (documents|pieces)", said)
    ]


def test_near_duplicates_are_left_out_and_shown(tmp_path: Path, tokenizer_folder: Path) -> None:
    long = "".join(SENTENCES[:6])
    texts = [SENTENCES[7] * 2, long, SENTENCES[8], long.replace("。", "！"), long[:-2] + "了", SENTENCES[9]]
    path = tmp_path / "a.txt"
    path.write_text("\n".join(["", *texts]), encoding="utf-8")
    near = {"dedup": {"near": {"similarity": 0.8}}}
    runs = {
        name: build(tmp_path / name, recipe_of(str(path), tokenizer_folder, **near, **parts))
        for name, parts in (
            ("whole", {}),
            ("cut", {"shards": {"input_mb": 0.0002}, "executor": {"workers": 1}}),
        )
    }
    for name, result in runs.items():
        assert {rule: count["count"] for rule, count in result["removed"].items()} == {
            "duplicate": 1,
            "near_duplicate": 1,
        }
        found = result["near_duplicates"]
        assert (found["clusters"], found["sizes"]) == (1, {"2": 1})
        [[first, other]] = found["samples"]
        assert (first["file"], first["line"], other["line"]) == (str(path), 3, 6)
        assert (first["text"], other["text"]) == (texts[1][:160], texts[4][:160])
        assert len(documents(tmp_path / name)) == 4
    assert documents(tmp_path / "whole") == documents(tmp_path / "cut")


@pytest.mark.parametrize("dedup", [{}, {"exact": False}, {"exact": False, "near": {}}])
def test_documents_with_evaluation_rows_are_left_out(
    dedup: dict[str, Any], tmp_path: Path, tokenizer_folder: Path
) -> None:
    path, asked = tmp_path / "a.txt", tmp_path / "dev.tsv"
    texts = [f"{SENTENCES[0]}{SENTENCES[1]}", SENTENCES[2], f"前面{SENTENCES[3]}", SENTENCES[4]]
    path.write_text("\n".join(texts), encoding="utf-8")
    asked.write_text(f"label\ttext\n1\t{SENTENCES[1]}\n0\t{SENTENCES[3]}\n1\t短\n", encoding="utf-8")
    against = {"against": str(asked), "length": 8, "shortest": 5}
    result = build(
        tmp_path / "run", recipe_of(str(path), tokenizer_folder, decontaminate=against, dedup=dedup)
    )
    assert result["documents"] == 2
    removed = result["removed"]["evaluation_text"]
    assert (removed["count"], removed["characters"]) == (2, len(texts[0]) + len(texts[2]))
    [file] = result["evaluation"]
    assert {name: file[name] for name in ("file", "rows", "long_enough", "found", "documents")} == {
        **{"file": str(asked), "rows": 4, "long_enough": 2, "found": 2, "documents": 2}
    }
    rows = [
        json.loads(line)
        for line in (tmp_path / "run" / "evaluation_rows.jsonl").read_text("utf-8").splitlines()
    ]
    assert [(row["line"], row["documents"], row["text"]) for row in rows] == [
        (2, 1, SENTENCES[1]),
        (3, 1, SENTENCES[3]),
    ]


def test_changed_evaluation_files_start_anew(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = write_paragraphs(tmp_path / "a.txt", paragraphs(5)), tmp_path / "dev.txt"
    asked.write_text("一二三四五六七八九十", encoding="utf-8")
    recipe = recipe_of(paragraph_input(path), tokenizer_folder, decontaminate={"against": str(asked)})
    monkeypatch.setattr(module, "write_manifest", lambda *_, **__: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(RuntimeError):
        build(tmp_path / "run", recipe)
    asked.write_text("一二三四五六七八九", encoding="utf-8")
    with pytest.raises(FenghuoError, match="changed since this run began"):
        build(tmp_path / "run", recipe)


def test_lengths_are_counted(tmp_path: Path, tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    path = write_paragraphs(tmp_path / "a.txt", paragraphs(60))
    result = build(tmp_path / "run", recipe_of(paragraph_input(path), tokenizer_folder))
    lengths = [len(pieces) for pieces in documents(tmp_path / "run")]
    for bounds, number in result["lengths"]["pieces"].items():
        low, high = int(bounds.split("-")[0]), int(bounds.split("-")[-1])
        assert number == sum(low <= length <= high for length in lengths)
    for counts in result["lengths"].values():
        assert sum(counts.values()) == result["documents"]


def test_the_summary_says_what_happened(
    tmp_path: Path, tokenizer_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    long = "".join(SENTENCES[:6])
    path.write_text(
        "\n".join([long, long[:-2] + "了", f"**{SENTENCES[7]}**", SENTENCES[8]]), encoding="utf-8"
    )
    more = {"decontaminate": {"against": str(path)}, "clean": {"markup": True}, "dedup": {"near": {}}}
    (tmp_path / "dev.txt").write_text(f"{SENTENCES[8] * 3}\n", encoding="utf-8")
    more["decontaminate"] = {"against": str(tmp_path / "dev.txt"), "length": 8, "shortest": 5}
    build(tmp_path / "run", recipe_of(str(path), tokenizer_folder, **more))
    said = capfd.readouterr().err
    for words in (
        "2 documents, ",
        "left out: 1 evaluation text, 1 near duplicate, 0 bad lines",
        "mended: 1 markup",
        "pieces a document: a tenth has up to",
        "near duplicates: 1 clusters of 2 to 2 documents",
        "dev.txt: 1 of 1 rows that are long enough (of 1) were found, in 1 documents",
    ):
        assert words in said
