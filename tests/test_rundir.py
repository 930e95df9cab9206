"""Run folders: whole or absent, one writer, and going on only with the same run."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import fenghuo
from fenghuo.config import Recipe
from fenghuo.errors import DamagedError, DiskError, RunError
from fenghuo.rundir import RunDir, folder_atomic, sha256_of, write_atomic, write_json
from fenghuo.rundir import atomic as atomic_files
from fenghuo.rundir.place import differences

SOURCE = Path(fenghuo.__file__).parent.parent


class Part(Recipe):
    """A part."""

    steps: int = 1
    """Steps."""


class Small(Recipe):
    """A recipe."""

    data: Path = Path("data.txt")
    """What is read."""
    part: Part = Part()
    """How long."""


def start(
    out: Path, *, steps: int = 1, verb: str = "count", data: str = "data.txt", **options: Any
) -> RunDir:
    recipe = Small(part=Part(steps=steps), data=Path(data))
    return RunDir.open(out, verb=verb, recipe=recipe, **options)


def fill(path: Path, problem: Exception) -> None:
    with folder_atomic(path) as folder:
        (folder / "weights").write_text("half")
        raise problem


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    head = (
        "import os, sys, time\nfrom pathlib import Path\nfrom fenghuo.config import Recipe\n"
        "from fenghuo.rundir import RunDir, folder_atomic, write_atomic\n"
        "class Small(Recipe):\n    '''A recipe.'''\n    data: Path = Path('data.txt')\n"
        "    part: dict[str, int] = {'steps': 1}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
    )


# Atomic files


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "文件.json"
    write_atomic(path, "一")
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(path.parent) == {"文件.json"}


def test_a_file_gets_the_modes_other_files_get(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_json_has_no_number_that_json_lacks(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"loss": float("nan"), "all": [float("inf"), 1.5, {"名": None}]})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"loss": None, "all": [None, 1.5, {"名": None}]}
    assert "名" in text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_refused_write_leaves_the_old_file_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    write_atomic(tmp_path / "file", "old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic_files.os, call, refuse)
    with pytest.raises(DiskError) as caught:
        write_atomic(tmp_path / "file", "new")
    monkeypatch.undo()
    assert str(tmp_path / "file") in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert ("MB free on that disk" in str(caught.value)) == (number != errno.EACCES)
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == {"file"}


def test_a_really_full_device_is_a_disk_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(DiskError, match="cannot write"):
        write_atomic(Path("/dev/full/x"), "x")


def test_a_file_in_the_way_of_a_folder_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", "x")


# Atomic folders


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with folder_atomic(tmp_path / "model") as folder:
            assert not (tmp_path / "model" / text).exists()
            (folder / text).mkdir()
            (folder / text / "file").write_text(text)
    assert names(tmp_path) == {"model"}
    assert names(tmp_path / "model") == {"two"}


def test_a_failure_inside_changes_nothing(tmp_path: Path) -> None:
    with folder_atomic(tmp_path / "model") as folder:
        (folder / "weights").write_text("old")
    with pytest.raises(ValueError, match="bug"):
        fill(tmp_path / "model", ValueError("bug"))
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert names(tmp_path) == {"model"}


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("Error while serializing: I/O error: File too large (os error 27)"),
        RuntimeError("[enforce fail at inline_container.cc:664]: No space left on device"),
    ],
)
def test_a_full_disk_inside_is_a_disk_error_whoever_tells_it(tmp_path: Path, problem: Exception) -> None:
    with pytest.raises(DiskError, match="MB free"):
        fill(tmp_path / "model", problem)
    assert names(tmp_path) == set()


def test_a_full_disk_inside_is_told_once_and_by_the_name_the_user_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_files.os, "fsync", refuse)
    with pytest.raises(DiskError) as caught, folder_atomic(tmp_path / "step-2") as beside:
        write_atomic(beside / "state", "x")
    told = str(caught.value)
    assert (told.count("cannot write"), told.count("free"), "writing-" in told) == (1, 1, False)


def test_a_file_not_found_inside_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), folder_atomic(tmp_path / "model"):
        (tmp_path / "nothing").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 3))
def test_a_kill_while_a_folder_is_replaced_loses_neither(tmp_path: Path, moment: int) -> None:
    """Killed between the renames, the old folder stands aside; the next run of the stage puts it back."""
    run = start(tmp_path / "run")
    with folder_atomic(run.model) as folder:
        (folder / "weights").write_text("old")
    run.close()
    code = f"""
        import signal
        replace, calls = os.replace, []
        def replace_and_die(*names):
            calls.append(names)
            if len(calls) == {moment}:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*names)
        os.replace = replace_and_die
        with folder_atomic(Path({str(run.model)!r})) as folder:
            (folder / "weights").write_text("new")
    """
    with python(code) as killed:
        assert killed.communicate(timeout=60) == ("", "")
    assert killed.returncode == -signal.SIGKILL
    again = start(tmp_path / "run")
    assert (again.model / "weights").read_text() == "old"
    assert not [name for name in names(again.path) if "writing" in name or "replaced" in name]


# Fingerprints


def test_a_fingerprint_is_of_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    (tmp_path / "a" / "y").write_text("2")
    first = sha256_of(tmp_path / "a")
    (tmp_path / "a" / ".lock").write_text("who cares")
    assert sha256_of(tmp_path / "a") == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_of(tmp_path / "b") == first
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "z")
    assert sha256_of(tmp_path / "b") != first
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4, of no bytes
    (tmp_path / "file").touch()
    assert sha256_of(tmp_path / "file") == empty


# --out


def test_absent_and_empty_folders_start(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "not" / "yet"):
        run = start(out)
        assert run.state == "new"
        assert "steps: 1" in (out / "recipe.yaml").read_text()


def test_an_unfinished_run_goes_on_and_a_finished_one_is_left_alone(tmp_path: Path) -> None:
    start(tmp_path / "run").close()
    run = start(tmp_path / "run")
    assert run.state == "resume"
    run.finish({"accuracy": 0.5})
    assert RunDir.read_result(tmp_path / "run") == {"accuracy": 0.5}
    before = names(tmp_path / "run")
    assert start(tmp_path / "run").state == "finished"
    assert start(tmp_path / "run", resume="never").state == "finished"
    assert names(tmp_path / "run") == before
    assert ".lock" not in before


def test_resume_never_refuses_an_unfinished_run(tmp_path: Path) -> None:
    start(tmp_path / "run").close()
    with pytest.raises(RunError, match="unfinished run, and --resume never"):
        start(tmp_path / "run", resume="never")


@pytest.mark.parametrize("finished", [False, True])
def test_another_recipe_is_refused_with_the_keys_that_differ(tmp_path: Path, finished: bool) -> None:
    run = start(tmp_path / "run")
    if finished:
        run.finish({})
    run.close()
    with pytest.raises(RunError) as caught:
        start(tmp_path / "run", steps=2, data="other.txt")
    assert "part.steps (1 there, 2 asked)" in str(caught.value)
    assert "data ('data.txt' there, 'other.txt' asked)" in str(caught.value)
    assert ("a finished run" if finished else "an unfinished run") in str(caught.value)


def test_long_values_are_cut_where_they_still_tell_apart() -> None:
    there = {
        "input": [{"path": "a.txt", "format": "lines"}],
        "lexicon": [f"words-{n}.txt" for n in range(40)],
    }
    asked = {"input": [{"path": "b.txt", "format": "lines"}], "lexicon": there["lexicon"][:39]}
    first, second = differences(there, asked)
    assert first == "input[0].path ('a.txt' there, 'b.txt' asked)"
    assert "words-39.txt'] there" in second
    assert "words-38.txt'] asked" in second
    (text,) = differences({"text": "x" * 200 + "a" * 200}, {"text": "x" * 200 + "b" * 200})
    assert "xa" in text
    assert "xb" in text
    assert len(text) < 160
    (begin,) = differences({"text": "a" * 200}, {"text": None})
    assert begin == f"text ('{'a' * 58}… there, None asked)"


def test_another_verb_is_refused(tmp_path: Path) -> None:
    start(tmp_path / "run").close()
    with pytest.raises(RunError, match="holds a run of 'count', not of 'add'"):
        start(tmp_path / "run", verb="add")


def test_a_folder_of_something_else_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").touch()
    with pytest.raises(RunError, match=r"holds something that is no run \(love\.txt\)"):
        start(tmp_path / "letters")
    assert names(tmp_path / "letters") == {"love.txt"}
    for overwrite in (False, True):
        with pytest.raises(RunError, match="there is a file of that name"):
            start(tmp_path / "letters" / "love.txt", overwrite=overwrite)


@pytest.mark.parametrize("name", ["recipe.yaml", "environment.json"])
def test_a_run_with_damaged_records_is_refused_and_can_be_replaced(tmp_path: Path, name: str) -> None:
    start(tmp_path / "run").close()
    (tmp_path / "run" / name).write_text("[")
    with pytest.raises(RunError, match="damaged"):
        start(tmp_path / "run")
    assert start(tmp_path / "run", overwrite=True).state == "new"


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot write") as caught:
        start(tmp_path / "file" / "run")
    assert "free" not in str(caught.value)  # room is not what is missing


# --overwrite


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.checkpoints.mkdir()
    (run.checkpoints / "step-1").touch()
    run.metric(1, loss=1.0)
    run.finish({})
    fresh = start(tmp_path / "run", steps=9, overwrite=True)
    assert fresh.state == "new"
    assert names(fresh.path) == {".lock", "environment.json", "recipe.yaml"}


@pytest.mark.parametrize("place", [".", "..", "/", "~", "below-home", "repository"])
def test_overwrite_never_takes_more_than_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    here, home = tmp_path / "work" / "here", tmp_path / "people" / "home"
    for folder in (here, home, tmp_path / "repository" / ".git"):
        folder.mkdir(parents=True)
    (here / "precious").touch()
    (home / "precious").touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    out = {"~": home, "below-home": home.parent, "repository": tmp_path / "repository"}.get(
        place, Path(place)
    )
    with pytest.raises(RunError, match="--overwrite will not remove"):
        start(out, overwrite=True)
    assert (here / "precious").exists()
    assert (home / "precious").exists()


@pytest.mark.parametrize(
    "data", ["run/data.txt", "run", "run/*.txt", "run/d[a]ta.*", "./x/../run/data.txt", "link"]
)
def test_overwrite_never_takes_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "run" / "data.txt").touch()
    (tmp_path / "link").symlink_to("run/data.txt")
    with pytest.raises(RunError, match="holds an input"):
        start(Path("run"), data=data, overwrite=True)
    with pytest.raises(RunError, match="holds an input"):
        start(Path("run"), overwrite=True, inputs=[Path("run/data.txt")])
    assert (tmp_path / "run" / "data.txt").exists()


def test_overwrite_through_a_link_is_judged_by_what_it_points_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "precious").touch()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RunError, match="working directory"):
        start(tmp_path / "link", overwrite=True)


def test_overwrite_removes_links_not_what_they_point_to(tmp_path: Path) -> None:
    start(tmp_path / "run").close()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "elsewhere")
    start(tmp_path / "run", overwrite=True)
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_a_half_removed_run_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path / "run")
    run.checkpoints.mkdir()
    run.close()
    monkeypatch.setattr(
        "fenghuo.rundir.place.shutil.rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", overwrite=True)
    with pytest.raises(RunError, match="no run"):
        start(tmp_path / "run")


# One writer


def test_this_process_cannot_open_a_run_twice(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(RunError, match="this process is writing that run already"):
            start(tmp_path / "run", **options)
    run.close()
    start(tmp_path / "run").close()


def test_a_forgotten_run_is_let_go(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    del run
    start(tmp_path / "run")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_another_process_is_kept_out_until_it_ends_however_it_ends(
    tmp_path: Path, end: signal.Signals
) -> None:
    run = start(tmp_path / "run")
    run.close()
    code = f"""
        run = RunDir.open(Path({str(run.path)!r}), verb="count", recipe=Small())
        print("open", flush=True)
        time.sleep(60)
    """
    with python(code) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(RunError, match=rf"another process \({other.pid}\) is writing"):
            start(tmp_path / "run")
        other.send_signal(end)
    assert start(tmp_path / "run").state == "resume"


def test_a_forked_worker_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = f"""
        run = RunDir.open(Path({str(tmp_path / "run")!r}), verb="count", recipe=Small())
        if os.fork() == 0:
            print(os.getpid(), flush=True)
        time.sleep(60)
    """
    with python(code) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        try:
            assert start(tmp_path / "run").state == "resume"
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_worker_that_ends_does_not_take_the_lock_with_it(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    code = f"""
        try:
            RunDir.open(Path({str(run.path)!r}), verb="count", recipe=Small())
        except Exception as error:
            print(error)
    """
    worker = multiprocessing.get_context("spawn").Process(target=os.getpid)
    worker.start()
    worker.join()
    pid = os.fork()
    if pid == 0:
        run.close()
        os._exit(0)
    os.waitpid(pid, 0)
    with python(code) as other:
        assert "is writing that run already" in other.communicate()[0]


# What a run writes


def test_metrics_are_read_as_they_were_written(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    assert run.metrics() == []
    run.metric(1, loss=0.1, **{"dev/f1": float("nan")})
    run.metric(2, loss=1e-300)
    assert run.metrics() == [{"step": 1, "loss": 0.1, "dev/f1": None}, {"step": 2, "loss": 1e-300}]
    run.trim_metrics(1)
    assert [one["step"] for one in run.metrics()] == [1]


def test_what_a_run_has_taken_outlives_its_processes_to_the_second(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    assert run.spent_s() == 0
    run.note_spent(12345.25)
    run.close()
    run = start(tmp_path / "run")
    assert run.spent_s() == 12345.25
    run.note_spent(12346.0)
    run.note_spent(12346.9)
    assert run.spent_s() == 12346
    (tmp_path / "run" / "spent.json").write_bytes(b"")  # as a power cut leaves it
    assert run.spent_s() == 0
    run.note_spent(12347.0)
    assert run.spent_s() == 12347


@pytest.mark.parametrize("seed", range(5))
def test_a_line_torn_by_a_kill_is_dropped_and_the_next_begins_on_its_own(tmp_path: Path, seed: int) -> None:
    run = start(tmp_path / "run")
    for step in range(1, 6):
        run.metric(step, loss=1 / step, note="服务")
    run.close()
    path = tmp_path / "run" / "metrics.jsonl"
    content = path.read_bytes()
    kept_bytes = random.Random(seed).randrange(len(content))
    path.write_bytes(content[:kept_bytes])
    whole = content[:kept_bytes].count(b"\n")
    again = start(tmp_path / "run")
    assert len(again.metrics()) == whole
    again.metric(9, loss=0.5)
    assert [one["step"] for one in again.metrics()] == [*range(1, whole + 1), 9]


def test_metrics_changed_by_another_hand_are_named(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.metric(1, loss=1.0)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write("loss went down\n")
    run.metric(2, loss=1.0)
    with pytest.raises(DamagedError, match=r"metrics\.jsonl:2"):
        run.metrics()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path / "run")
    run.metric(1, loss=1.0)
    real = os.write
    monkeypatch.setattr("fenghuo.rundir.metrics.os.write", lambda handle, data: real(handle, data[:5]))
    with pytest.raises(DiskError, match=r"metrics\.jsonl"):
        run.metric(2, loss=1.0)
    monkeypatch.undo()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes().endswith(b"\n")
    run.metric(3, loss=1.0)
    assert [one["step"] for one in run.metrics()] == [1, 3]


def test_a_log_line_is_kept_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = start(tmp_path / "run")
    run.log("服务 \ud800")
    assert "服务" in capsys.readouterr().err
    assert "服务" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")


def test_the_environment_carries_versions_hardware_seed_and_lineage(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("")
    run = start(tmp_path / "run")
    run.environment(seed=7, inputs=[("data", tmp_path / "data.txt"), ("corpus", Path("s3://bucket/x"))])
    values = RunDir.read_environment(run.path)
    assert (values["verb"], values["seed"]) == ("count", 7)
    assert {"python", "numpy", "tokenizers"} <= values["versions"].keys()
    assert {"platform", "processor", "cores", "threads", "memory_bytes"} <= values["hardware"].keys()
    assert values["inputs"] == [
        {"role": "data", "path": str(tmp_path / "data.txt"), "sha256": sha256_of(tmp_path / "data.txt")},
        {"role": "corpus", "path": "s3:/bucket/x", "sha256": None},
    ]


def test_threads_are_those_of_omp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run = start(tmp_path / "run")
    run.environment(seed=None, inputs=[])
    assert RunDir.read_environment(run.path)["hardware"]["threads"] == 3


def test_a_run_whose_input_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("one")
    inputs = [("data", tmp_path / "data.txt")]
    run = start(tmp_path / "run")
    run.environment(seed=0, inputs=inputs)
    run.close()
    again = start(tmp_path / "run")
    again.environment(seed=0, inputs=inputs)
    again.close()
    (tmp_path / "data.txt").write_text("two")
    third = start(tmp_path / "run")
    with pytest.raises(RunError, match=r"the data .*data\.txt changed since this run began"):
        third.environment(seed=0, inputs=inputs)


def test_other_package_versions_are_noted_on_going_on(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.environment(seed=0, inputs=[])
    run.close()
    values = RunDir.read_environment(run.path)
    values["versions"]["numpy"] = "0.1"
    write_json(run.path / "environment.json", values)
    start(tmp_path / "run").environment(seed=0, inputs=[])
    assert "numpy ('0.1' there" in (tmp_path / "run" / "log.txt").read_text()


def test_reading_what_is_no_run_says_so(tmp_path: Path) -> None:
    for read in (RunDir.read_result, RunDir.read_environment, RunDir.read_recipe_yaml):
        with pytest.raises(RunError, match="not a run folder"):
            read(tmp_path)
    start(tmp_path / "run")
    with pytest.raises(RunError, match="an unfinished run"):
        RunDir.read_result(tmp_path / "run")
    assert RunDir.read_recipe_yaml(tmp_path / "run")["part"] == {"steps": 1}
    (tmp_path / "run" / "result.json").write_text("[")
    with pytest.raises(DamagedError):
        RunDir.read_result(tmp_path / "run")


# Kills


@pytest.mark.slow
def test_whenever_a_run_is_killed_while_it_begins_the_same_words_begin_it(tmp_path: Path) -> None:
    """Killed before any of its calls that change the disk, the folder is never in the way."""
    states = set()
    for moment in range(1, 60):
        out = tmp_path / f"run-{moment}"
        code = f"""
            import signal
            calls = 0
            def deadly(call):
                def wrapped(*values, **named):
                    global calls
                    calls += 1
                    if calls == {moment}:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*values, **named)
                return wrapped
            for name in ("open", "replace", "fsync", "mkdir"):
                setattr(os, name, deadly(getattr(os, name)))
            RunDir.open(Path({str(out)!r}), verb="count", recipe=Small()).metric(1, loss=1.0)
        """
        with python(code) as killed:
            killed.communicate(timeout=60)
        run = RunDir.open(out, verb="count", recipe=Small())
        states.add(run.state)
        assert not [name for name in names(out) if "writing" in name]
        if killed.returncode != -signal.SIGKILL:
            break
    assert killed.returncode == 0
    assert states == {"new", "resume"}


# torchrun


@pytest.mark.slow
def test_only_rank_0_writes_and_all_ranks_agree(tmp_path: Path) -> None:
    code = f"""
        run = RunDir.open(Path({str(tmp_path / "run")!r}), verb="count", recipe=Small(), overwrite=len(sys.argv) > 1)
        print(run.state, flush=True)
        run.environment(seed=0, inputs=[])
        run.metric(1, rank=int(os.environ["RANK"]))
        run.log("from " + os.environ["RANK"])
        time.sleep(1 if os.environ["RANK"] == "0" else 0)
    """
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
    }
    for state in ("new", "resume"):
        # The other rank comes first and waits.
        with python(code, RANK="1", **shared) as one, python(code, RANK="0", **shared) as zero:
            told, errors = zip(zero.communicate(timeout=60), one.communicate(timeout=60), strict=True)
        assert told == (f"{state}\n", f"{state}\n"), errors
        assert errors[1] == ""
    run = start(tmp_path / "run")
    assert [one["rank"] for one in run.metrics()] == [0, 0]
    run.finish({})
    with python(code, RANK="1", **shared) as one:
        assert one.communicate(timeout=60)[0] == "finished\n"
