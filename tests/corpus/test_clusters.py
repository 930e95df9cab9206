"""The same recipe by other hands: the same manifest. Slurm's commands are played by small scripts on PATH."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datatrove.executor import slurm as slurm_of_datatrove
from tests.corpus.texts import build, paragraphs, recipe_of, write_paragraphs

from fenghuo.config import build_recipe, dump_recipe
from fenghuo.corpus import on_ray, on_slurm
from fenghuo.corpus.executor import interrupted_by_sigterm, open_executor
from fenghuo.corpus.recipe import CorpusRecipe, ExecutorRecipe
from fenghuo.corpus.tasks import run_task, tasks_left
from fenghuo.errors import FenghuoError, UsageError

COMMANDS = {
    # Runs the whole job array at once, task by task; what a task says goes where the script wants it.
    "sbatch": """#!/bin/bash
for given in "$@"; do case "$given" in --export=ALL,*) export "${given#--export=ALL,}";; esac; done
script="${@: -1}"; cp "$script" "$FAKE_SLURM/script-$(ls "$FAKE_SLURM" | wc -l)"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
log=$(sed -n 's/^#SBATCH --output=//p' "$script")
export SLURM_NODELIST=here SLURM_ARRAY_TASK_ID
for SLURM_ARRAY_TASK_ID in $(seq 0 "$last"); do
  bash "$script" >"${log//%A_%a/7_$SLURM_ARRAY_TASK_ID}" 2>&1
done
echo Submitted batch job 7
""",
    "srun": '#!/bin/bash\nwhile [ "$1" != launch_pickled_pipeline ]; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/bash\necho "$3"\n',
    "squeue": "#!/bin/bash\necho slurm_load_jobs error: Invalid job id specified >&2; exit 1\n",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that gets every script that was submitted."""
    commands, submitted = tmp_path / "bin", tmp_path / "submitted"
    commands.mkdir()
    submitted.mkdir()
    for name, script in COMMANDS.items():
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("FAKE_SLURM", str(submitted))
    monkeypatch.setattr(on_slurm, "_LOOK_EVERY_S", 0.01)
    return submitted


def given(folder: Path, tokenizer: Path, number: int = 24, **values: Any) -> CorpusRecipe:
    texts = paragraphs(number)
    path = write_paragraphs(folder / "a.txt", texts + texts[:4])
    return recipe_of(
        {"path": str(path), "format": "paragraphs"}, tokenizer, shards={"input_mb": 0.003}, **values
    )


def manifest(run: Path) -> Any:
    return json.loads((run / "shards" / "manifest.json").read_bytes())


def test_completed_tasks_are_noted_as_datatrove_notes_them(tmp_path: Path) -> None:
    theirs = on_slurm.Executor(ExecutorRecipe(kind="slurm"), [], tasks=4, home=tmp_path)
    run_task([], 3, 4, tmp_path)
    assert theirs.get_incomplete_ranks() == [0, 1, 2]
    theirs.mark_rank_as_completed(1)
    completed: list[int] = []
    assert tasks_left(4, tmp_path, completed.append) == [0, 2]
    assert completed == [1, 3]


@pytest.mark.slow
def test_more_tasks_than_an_array_has_jobs(
    tmp_path: Path, tokenizer_folder: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_slurm, "_LONGEST_ARRAY", 2)
    values: dict[str, Any] = {"dedup": {"exact": False}}
    wanted = build(tmp_path / "local", given(tmp_path, tokenizer_folder, **values))
    build(tmp_path / "run", given(tmp_path, tokenizer_folder, executor={"kind": "slurm"}, **values))
    assert wanted["shards"] == 3
    assert manifest(tmp_path / "run") == manifest(tmp_path / "local")
    [script] = slurm.iterdir()
    assert "#SBATCH --array=0-1\n" in script.read_text()


@pytest.mark.slow
def test_slurm_runs_the_whole_recipe(tmp_path: Path, tokenizer_folder: Path, slurm: Path) -> None:
    wanted = build(tmp_path / "local", given(tmp_path, tokenizer_folder))
    executor = {"kind": "slurm", "partition": "cpu", "time": "01:00:00", "memory_gb": 3, "workers": 5}
    recipe = given(tmp_path, tokenizer_folder, executor={**executor, "sbatch": {"account": "house"}})
    result = build(tmp_path / "run", recipe)
    assert manifest(tmp_path / "run") == manifest(tmp_path / "local")
    assert result["removed"] == wanted["removed"]
    first, second = (path.read_text() for path in sorted(slurm.iterdir()))
    assert "--job-name=fenghuo-corpus-sign" in first
    for line in ("partition=cpu", "time=01:00:00", "mem-per-cpu=3G", "cpus-per-task=1", "account=house"):
        assert f"#SBATCH --{line}\n" in second
    assert f"#SBATCH --array=0-{wanted['shards'] - 1}%5\n" in second
    assert f'PATH="{Path(sys.executable).parent}:$PATH"' in second


@pytest.mark.slow
def test_a_slurm_job_that_fails_is_told_and_gone_on_with(
    tmp_path: Path, tokenizer_folder: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = given(tmp_path, tokenizer_folder, 8, executor={"kind": "slurm"}, dedup={"exact": False})
    srun = tmp_path / "bin" / "srun"
    works = srun.read_text()
    srun.write_text(works.replace("while", '[ "$SLURM_ARRAY_TASK_ID" = 1 ] && exit 9\nwhile'))
    with pytest.raises(FenghuoError, match=r"1 of \d+ tasks did not come to their end, the first of them 1"):
        build(tmp_path / "run", recipe)
    srun.write_text(works)
    build(tmp_path / "run", recipe)
    again = sorted(slurm.iterdir())[-1].read_text()
    assert "#SBATCH --array=0-0" in again  # the one that failed, and no other
    assert "--partition" not in again
    build(tmp_path / "local", given(tmp_path, tokenizer_folder, 8, dedup={"exact": False}))
    assert manifest(tmp_path / "run") == manifest(tmp_path / "local")


def test_jobs_that_wait_are_not_submitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the waiting command was killed."""
    home = tmp_path / "sign"
    (home / "completions").mkdir(parents=True)
    (home / "job").write_text("41")
    looks: list[str] = []

    def is_queued(job: str) -> bool:
        looks.append(job)
        for task in range(min(len(looks), 3)):
            (home / "completions" / f"{task:05d}").touch()
        return len(looks) < 4

    monkeypatch.setattr(on_slurm, "_is_queued", is_queued)
    monkeypatch.setattr(on_slurm, "_submit", lambda _: pytest.fail("submitted again"))
    monkeypatch.setattr(on_slurm, "_LOOK_EVERY_S", 0.0)
    done: list[int] = []
    on_slurm.run_on_slurm(ExecutorRecipe(kind="slurm"), [], 3, home, done.append)
    assert set(looks) == {"41"}
    assert done == [0, 1, 2]


@pytest.mark.parametrize(("tasks", "jobs", "each"), [(3, 3, 1), (1_001, 1_001, 1), (2_500, 834, 3)])
def test_all_jobs_are_one_array(
    tasks: int, jobs: int, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[str] = []
    monkeypatch.setattr(slurm_of_datatrove, "launch_slurm_job", lambda script, *_: scripts.append(script))
    executor = on_slurm.Executor(ExecutorRecipe(kind="slurm"), [], tasks=tasks, home=tmp_path)
    executor.launch_job()
    assert executor.tasks_per_job == each
    [script] = scripts
    assert f"#SBATCH --array=0-{jobs - 1}\n" in script


@pytest.mark.parametrize(("code", "kept"), [(0, False), (1, True)])
def test_ctrl_c_cancels_the_jobs_and_forgets_them(
    code: int, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that are ending still stand in the queue, and a second call would wait for them in vain."""
    home = tmp_path / "sign"
    home.mkdir()
    (home / "job").write_text("41")
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $* > {tmp_path / 'cancelled'}\nexit {code}\n")
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    answers = iter([True, KeyboardInterrupt()])

    def is_queued(_: str) -> bool:
        if isinstance(answer := next(answers), BaseException):
            raise answer
        return answer

    monkeypatch.setattr(on_slurm, "_is_queued", is_queued)
    with pytest.raises(KeyboardInterrupt):
        on_slurm.run_on_slurm(ExecutorRecipe(kind="slurm"), [], 3, home, print)
    assert (tmp_path / "cancelled").read_text() == "41\n"
    assert (home / "job").exists() == kept


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no sbatch here"):
        on_slurm.run_on_slurm(ExecutorRecipe(kind="slurm"), [], 1, tmp_path / "sign", print)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra: scale)")
def test_ray_runs_the_whole_recipe(tmp_path: Path, tokenizer_folder: Path) -> None:
    build(tmp_path / "local", given(tmp_path, tokenizer_folder))
    recipe = given(tmp_path, tokenizer_folder, executor="ray")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    # In a process of its own: Ray leaves sockets and threads to the end of the process.
    subprocess.run(
        [sys.executable, "-m", "fenghuo", "corpus", "recipe.yaml", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=300,
    )
    assert manifest(tmp_path / "run") == manifest(tmp_path / "local")


def test_sigterm_stops_the_command_on_ray_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("Ray's own handler"))  # as Ray's does

    ray = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setattr(on_ray, "_ray", lambda: ray)
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(KeyboardInterrupt),
        interrupted_by_sigterm(),
        open_executor(ExecutorRecipe(kind="ray"), 1),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_one_word_names_the_executor() -> None:
    recipe = build_recipe(CorpusRecipe, {"input": "a.txt", "tokenizer": "v", "executor": "ray"})
    assert recipe.executor == ExecutorRecipe(kind="ray")
