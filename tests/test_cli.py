"""The command line as a user meets it: real words in, exit code, stdout and stderr out."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest

import fenghuo
from fenghuo import progress
from fenghuo.cli import calls as table
from fenghuo.cli import main
from fenghuo.cli.calls import load
from fenghuo.cli.verbs import PLAIN, STAGES, SUBVERBS, Stage
from fenghuo.config import Recipe
from fenghuo.errors import GateError

SOURCE = Path(fenghuo.__file__).parent.parent
FAKE = '''
import os, sys, time, weakref
from pathlib import Path
from typing import Any, Literal
from pydantic import Field
from fenghuo.config import Recipe
from fenghuo.errors import DataError, DivergedError

class Train(Recipe):
    """How long."""
    steps: int = Field(default=10, gt=0)
    """Optimizer steps."""
    seed: int = 0
    """Grows into everything random."""
    shuffle: bool = True
    """Whether order is drawn."""

class FakeRecipe(Recipe):
    """Counts."""
    text: Path
    """What is read."""
    mood: Literal[
        "fine", "boom", "full", "missing", "memory", "diverged", "sleep", "half", "typo", "late typo", "denied",
        "curve", "dropped", "exec"
    ] = "fine"
    """What happens."""
    files: list[str] = []
    """More files."""
    train: Train = Train(steps=5)
    """How long."""

def plan(recipe):
    return f"{recipe.train.steps} steps of {recipe.text}"

def run(recipe, run):
    run.log(f"counting to {recipe.train.steps}")
    if recipe.mood == "boom":
        raise TypeError("a bug")
    if recipe.mood == "full":
        raise OSError(28, "No space left on device", str(run.path / "big"))
    if recipe.mood == "missing":
        import matplotlib_of_another_world
    if recipe.mood == "memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
    if recipe.mood == "diverged":
        raise DivergedError("the loss is NaN at step 3")
    if recipe.mood in ("late typo", "curve"):
        run.metric(1, loss=0.5)
    if "typo" in recipe.mood:
        raise DataError(f"{recipe.text}: no such file")
    if recipe.mood == "denied":
        raise PermissionError(13, "Permission denied", str(recipe.text))
    if recipe.mood == "sleep":
        print("ready", flush=True)
        time.sleep(60)
    if recipe.mood == "dropped":
        class Thing: pass
        thing = Thing()
        kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), recipe.train.seed))
        del thing  # the signal is noticed in the callback, where Python drops what is raised
        time.sleep(20)
    if recipe.mood == "exec":
        exec("os.kill(os.getpid(), recipe.train.seed)\\nfor _ in range(9): pass")
    if recipe.mood == "half" and not (run.path / "half").exists():
        (run.path / "half").touch()
        raise KeyboardInterrupt
    run.finish({"steps": recipe.train.steps, "state": run.state})
'''


@pytest.fixture(autouse=True)
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "fake_stage.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(STAGES, "fake", stage())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FENGHUO_TRACEBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    yield
    sys.modules.pop("fake_stage", None)
    progress.configure()


def stage() -> Stage:
    return Stage(
        recipe="fake_stage:FakeRecipe",
        run="fake_stage:run",
        help="Counts.",
        examples=("fenghuo fake f.yaml",),
    )


def run(capfd: pytest.CaptureFixture[str], *words: str) -> SimpleNamespace:
    code = main(list(words))
    out, err = capfd.readouterr()
    assert "Traceback" not in err or os.environ.get("FENGHUO_TRACEBACK")
    return SimpleNamespace(code=code, out=out, err=err)


def process(*words: str, **environment: str) -> subprocess.Popen[str]:
    starter = (
        "import sys; from fenghuo.cli import main; from fenghuo.cli.verbs import STAGES, Stage;"
        "STAGES['fake'] = Stage(recipe='fake_stage:FakeRecipe', run='fake_stage:run', help='', examples=());"
        "sys.exit(main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", starter, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{Path.cwd()}", **environment},
    )


# Help and version


def test_help_lists_the_verbs_in_the_datas_order(capfd: pytest.CaptureFixture[str]) -> None:
    told = run(capfd, "--help")
    verbs = "demo corpus vocab convert pretrain finetune augment distill quantize export evaluate predict serve report"
    places = [re.search(rf"│ {verb} ", told.out) for verb in [*verbs.split(), "ledger"]]
    assert all(places)
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)
    for later in ("study", "prune"):
        assert f"│ {later} " not in told.out
    assert (told.code, run(capfd).out) == (0, told.out)


def test_a_verbs_help_shows_keys_helps_defaults_and_examples(capfd: pytest.CaptureFixture[str]) -> None:
    told = run(capfd, "fake", "--help")
    flat = " ".join(told.out.replace("│", " ").split())
    for part in (
        "--train.steps VALUE Optimizer steps. [a whole number; default: 5]",
        "--text VALUE What is read. [a path; needed]",
        "'fine' | 'boom'",
        "--files VALUE... More files. [a list of (text); default: []]",
        "--out",
        "--overwrite",
        "--resume",
        "--print-recipe",
        "--dry-run",
        "--device",
        "--seed",
        "--quiet",
        "--log-format",
        "fenghuo fake f.yaml",
    ):
        assert part in flat
    assert told.code == 0


@pytest.mark.parametrize("words", [[name] for name in PLAIN] + [["vocab", "train"], ["vocab", "prune"]])
def test_every_other_verb_has_help_and_an_example(
    capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    told = run(capfd, *words, "--help")
    assert told.code == 0
    assert "Examples:" in told.out
    assert f"fenghuo {' '.join(words)}" in told.out.split("Examples:")[1]


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    told = run(capfd, "--version")
    assert (told.code, told.out) == (0, f"{fenghuo.__version__}\n")
    there = subprocess.run(
        [sys.executable, "-m", "fenghuo", "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert there.stdout == told.out


REAL = [verb for verb in STAGES if verb != "fake"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["", *REAL, *PLAIN, "vocab train", "vocab prune"])
def test_help_is_quick_and_light(verb: str) -> None:
    code = textwrap.dedent(
        f"""
        import sys
        from fenghuo.cli import main
        code = main({[*verb.split(), "--help"]!r})
        heavy = {{"torch", "numpy", "pyarrow", "datatrove", "onnxruntime", "tokenizers"}} & set(sys.modules)
        sys.exit(f"imported {{heavy}}" if heavy else code)
        """
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    # Processor time, which a busy machine does not stretch as it does the clock.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.parametrize("verb", REAL)
def test_every_stage_of_the_table_is_there(verb: str) -> None:
    kind = load(STAGES[verb].recipe)
    assert issubclass(kind, Recipe)
    assert callable(load(STAGES[verb].run))
    assert callable(load(STAGES[verb].run.replace(":run", ":plan")))


@pytest.mark.parametrize("verb", REAL)
def test_every_stage_has_a_template_and_refuses_an_empty_recipe(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, verb: str
) -> None:
    template = run(capfd, verb, "--print-recipe")
    assert (template.code, template.err) == (0, "")
    assert "REQUIRED" in template.out or "exactly one" in template.out
    (tmp_path / "empty.yaml").write_text("")
    told = run(capfd, verb, "empty.yaml", "--out", "run")
    assert told.code == 2
    assert "empty recipe" in told.err
    assert not (tmp_path / "run").exists()


def test_every_place_the_table_names_is_there() -> None:
    text = Path(table.__file__).read_text(encoding="utf-8")
    for place in re.findall(r'load\("([\w.]+:\w+)"\)', text):
        assert callable(load(place)), place


# Recipes


def test_print_recipe_alone_is_a_template_and_with_values_the_resolved_one(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "# What is read. [a path]\ntext:  # REQUIRED" in run(capfd, "fake", "--print-recipe").out
    (tmp_path / "f.yaml").write_text("text: a.txt\n")
    told = run(capfd, "fake", "f.yaml", "--print-recipe", "--seed", "3")
    assert told.out.startswith("text: a.txt\nmood: fine\n")
    assert "  steps: 5\n  seed: 3\n" in told.out
    (tmp_path / "g.yaml").write_text(told.out)
    assert run(capfd, "fake", "g.yaml", "--print-recipe").out == told.out


def test_a_budget_is_short_for_its_key_and_takes_the_place_of_steps(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text("corpus: c\nmodel: nezha-base\ntrain: {steps: 7}\n")
    told = run(capfd, "pretrain", "p.yaml", "--budget", "1h30m", "--print-recipe").out
    assert "  steps: null\n" in told
    assert "  budget: 5400.0\n" in told
    wrong = run(capfd, "pretrain", "p.yaml", "--budget", "soon")
    assert (wrong.code, "not a time; allowed: 90s, 30m, 2h" in wrong.err) == (2, True)
    assert "the recipe of fake has no such key" in run(capfd, "fake", "--text", "a", "--budget", "2h").err


def test_a_flag_wins_over_the_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("text: a\ntrain: {steps: 7}\nfiles: [x]\n")
    assert run(capfd, "fake", "f.yaml", "--dry-run").out == "7 steps of a\n"
    assert run(capfd, "fake", "f.yaml", "--dry-run", "--train.steps", "8", "--text=b").out == "8 steps of b\n"
    told = run(
        capfd, "fake", "f.yaml", "--print-recipe", "--files", "y", "--files", "z", "--train.shuffle", "false"
    )
    assert "files:\n- y\n- z\n" in told.out
    assert "shuffle: false" in told.out
    assert "- 服务" in run(capfd, "fake", "f.yaml", "--print-recipe", "--files", '["服务"]').out
    assert (
        "  steps: 9\n  seed: 4"
        in run(
            capfd,
            "fake",
            "f.yaml",
            "--print-recipe",
            "--train",
            '{"steps": 9, "seed": 1}',
            "--train.seed",
            "4",
        ).out
    )


def test_hyphens_and_underscores_are_one_in_a_flag(capfd: pytest.CaptureFixture[str]) -> None:
    told = run(
        capfd,
        "pretrain",
        "--corpus",
        "c",
        "--model",
        "m",
        "--train.steps",
        "1",
        "--train.save-every=3",
        "--print-recipe",
    )
    assert "save_every: 3" in told.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fakee"], 'Unknown command "fakee". Did you mean "fake"?'),
        (["fake", "--train.stps", "3"], "--train.stps. Did you mean --train.steps?"),
        (["fake", "--train.steps"], "--train.steps requires an argument"),
        (
            ["fake", "--train.steps", "many", "--text", "a"],
            "--train.steps: given 'many'; allowed: a whole number",
        ),
        (["fake", "--mood", "fin", "--text", "a"], "Did you mean 'fine'?"),
        (["fake", "--resume", "maybe"], '"auto", "never"'),
        (["fake", "no.yaml"], "no.yaml: no such file"),
        (["fake", "."], "given: a folder"),
        (["fake"], "empty recipe\n  needed: text"),
        (["fake", "--text", "a"], "needs --out RUN"),
        (["fake", "a.yaml", "b.yaml"], "b.yaml"),
        (
            ["fake", "--seed", "1", "--train.seed", "2", "--text", "a"],
            "--seed: given '1', but --train.seed is '2'",
        ),
        (["fake", "--device", "cuda", "--text", "a"], "the recipe of fake has no such key"),
        (["ledger"], "requires an argument"),
        (["evaluate", "m"], "--data"),
        (["vocab", "trian"], 'Did you mean "train"?'),
        (["serve", "m", "--port", "abc"], "--port"),
    ],
)
def test_a_mistake_is_exit_2_and_one_message(
    capfd: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    told = run(capfd, *words)
    assert (told.code, told.out) == (2, "")
    assert says in told.err
    assert told.err.startswith("fenghuo")


# Runs


def test_a_run_its_record_and_its_second_start(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = run(capfd, "fake", "--text", "a", "--out", "run")
    assert (told.code, told.out, told.err) == (0, "", "counting to 5\n")
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == {"steps": 5, "state": "new"}
    again = run(capfd, "fake", "--text", "a", "--out", "run")
    assert (again.code, again.err) == (0, "run: this run is finished; nothing to do\n")
    other = run(capfd, "fake", "--text", "a", "--out", "run", "--train.steps", "6")
    assert other.code == 2
    assert "train.steps (5 there, 6 asked)" in other.err
    replaced = run(capfd, "fake", "--text", "a", "--out", "run", "--train.steps", "6", "--overwrite")
    assert replaced.code == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 6


def test_a_finished_run_has_a_page_of_its_own(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capfd, "fake", "--text", "a", "--out", "run").code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<title>run</title>" in page
    assert "steps: 5" in page  # its recipe
    (tmp_path / "run" / "report.html").unlink()
    assert run(capfd, "fake", "--text", "a", "--out", "run").code == 0
    assert (tmp_path / "run" / "report.html").read_text() == page


def test_a_run_is_whole_without_what_draws_its_curves(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = run(capfd, "fake", "--text", "a", "--out", "run", "--mood", "curve")
    assert told.code == 0
    assert "no run/report.html: this needs the package 'matplotlib'" in told.err
    assert (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "report.html").exists()


def test_ctrl_c_is_130_and_the_same_words_go_on(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["fake", "--text", "a", "--out", "run", "--mood", "half"]
    told = run(capfd, *words)
    assert told.code == 130
    assert "fenghuo fake: stopped" in told.err
    never = run(capfd, *words, "--resume", "never")
    assert never.code == 2
    assert "unfinished run" in never.err
    assert run(capfd, *words).code == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["state"] == "resume"


def test_a_mistake_before_any_work_does_not_stand_in_the_way_of_the_mended_words(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = run(capfd, "fake", "--text", "a", "--out", "run", "--mood", "typo")
    assert (told.code, list((tmp_path / "run").iterdir())) == (2, [])
    assert run(capfd, "fake", "--text", "b", "--out", "run").code == 0


def test_a_mistake_found_after_work_leaves_the_work(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["fake", "--text", "a", "--out", "run", "--mood"]
    assert run(capfd, *words, "late typo").code == 2
    assert (tmp_path / "run" / "metrics.jsonl").exists()
    assert "unfinished run of another recipe" in run(capfd, *words, "fine").err


def test_a_path_that_may_not_be_used_is_no_internal_error(capfd: pytest.CaptureFixture[str]) -> None:
    told = run(capfd, "fake", "--text", "secret.tsv", "--out", "run", "--mood", "denied")
    assert (told.code, told.err.splitlines()[-1]) == (2, "fenghuo fake: secret.tsv: Permission denied")


@pytest.mark.parametrize(
    ("mood", "code", "says"),
    [
        ("full", 1, "cannot write run/big: No space left on device ("),
        ("memory", 1, "out of memory: CUDA out of memory. Tried to allocate 20 GiB"),
        ("diverged", 1, "fenghuo fake: the loss is NaN at step 3"),
        ("boom", 1, "internal error: TypeError: a bug; the traceback is in run/log.txt"),
        ("missing", 1, "internal error: ModuleNotFoundError"),
    ],
)
def test_a_failure_is_told_in_one_line(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, mood: str, code: int, says: str
) -> None:
    told = run(capfd, "fake", "--text", "a", "--out", "run", "--mood", mood, "--quiet")
    assert (told.code, told.out, told.err.count("\n")) == (code, "", 1)
    assert says in told.err
    if mood == "boom":
        assert 'raise TypeError("a bug")' in (tmp_path / "run" / "log.txt").read_text()


def test_a_traceback_is_shown_when_asked(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FENGHUO_TRACEBACK", "1")
    told = run(capfd, "fake", "--text", "a", "--out", "run", "--mood", "boom")
    assert "Traceback" in told.err
    assert told.code == 1


def test_a_package_of_an_extra_that_is_missing_names_the_extra(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    def draw(runs: list[Path], out: Path) -> None:
        import matplotlib  # noqa: F401

    stand_in(monkeypatch, {"fenghuo.report.page:write_report": draw})
    told = run(capfd, "report", "run")
    assert told.code == 2
    assert "needs the package 'matplotlib': pip install 'fenghuo[report]'" in told.err


def test_a_missing_package_is_found_before_an_old_run_is_replaced(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capfd, "fake", "--text", "a", "--out", "run").code == 0
    (tmp_path / "needy.py").write_text("import torch_of_another_world")
    monkeypatch.setitem(
        STAGES, "fake", Stage(recipe="fake_stage:FakeRecipe", run="needy:run", help="", examples=())
    )
    assert run(capfd, "fake", "--text", "b", "--out", "run", "--overwrite").code == 1
    assert (tmp_path / "run" / "result.json").exists()


def test_quiet_says_nothing_and_json_makes_every_line_an_object(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "fake", "--text", "a", "--out", "one", "--quiet").err == ""
    told = run(capfd, "fake", "--text", "a", "--out", "two", "--log-format", "json", "--mood", "diverged")
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert [line["message"] for line in lines] == ["counting to 5", "fenghuo fake: the loss is NaN at step 3"]
    assert lines[-1]["level"] == "error"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_130_and_the_run_can_go_on(tmp_path: Path, number: signal.Signals) -> None:
    words = ["fake", "--text", "a", "--out", "run", "--mood", "sleep"]
    with process(*words) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "ready\n"
        with process(*words) as second:
            _, err = second.communicate(timeout=30)
            assert second.returncode == 2
            assert f"another process ({sleeper.pid}) is writing that run" in err
        sleeper.send_signal(number)
        _, err = sleeper.communicate(timeout=30)
    assert sleeper.returncode == 130
    assert "fenghuo fake: stopped" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("mood", ["dropped", "exec"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_not_lost_where_python_drops_it_or_dies_of_it(mood: str, number: signal.Signals) -> None:
    words = ["fake", "--text", "a", "--out", "run", "--mood", mood, "--seed", str(number.value)]
    with process(*words) as stopped:
        _, err = stopped.communicate(timeout=30)
    assert stopped.returncode == 130
    assert err.splitlines()[1:] == [
        "fenghuo fake: stopped; what was finished stays, and the same command goes on from there"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["import", "end"])
def test_a_signal_before_the_work_or_after_it_is_no_traceback(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    kill = f"import os; os.kill(os.getpid(), {number.value})"
    if moment == "import":
        (tmp_path / "cyclopts.py").write_text(kill)
    else:
        (tmp_path / "sitecustomize.py").write_text(f"import atexit; atexit.register(lambda: exec({kill!r}))")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCE}"}
    words = [sys.executable, "-m", "fenghuo", "--version"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30, check=False)
    if moment == "import":
        assert (ended.returncode, ended.stderr) == (130, "fenghuo: stopped\n")
    else:
        assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, fenghuo.__version__, "")


def test_a_signal_that_is_to_be_ignored_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with process("fake", "--text", "a", "--out", "run", "--mood", "exec", "--seed", "2") as background:
            background.communicate(timeout=30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert background.returncode == 0


@pytest.mark.slow
def test_a_killed_run_leaves_no_lock_behind(tmp_path: Path) -> None:
    words = ["fake", "--text", "a", "--out", "run", "--mood", "sleep"]
    with process(*words) as sleeper:
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        sleeper.kill()
    with process(*words) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "ready\n"
        second.kill()


def test_a_closed_pipe_is_no_error() -> None:
    with process("fake", "--help") as reader:
        assert reader.stdout is not None
        reader.stdout.close()
        assert reader.stderr is not None
        assert "Broken" not in reader.stderr.read()
        assert reader.wait(timeout=30) in (0, 1)


# The other verbs call one function each


def stand_in(monkeypatch: pytest.MonkeyPatch, places: dict[str, Any]) -> None:
    monkeypatch.setattr(table, "load", lambda place: places[place])


def test_plain_verbs_pass_what_was_given(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def note(name: str, result: Any = None) -> Any:
        return lambda *values, **named: (calls.append((name, values, named)), result)[1]

    stand_in(
        monkeypatch,
        {
            "fenghuo.demo.way:run": note("demo"),
            "fenghuo.demo.way:Tellers": note("tellers"),
            "fenghuo.study.statistics:compare": note("compare"),
            "fenghuo.report.ledger:ledger": note("ledger"),
            "fenghuo.report.ledger:render": note("render"),
            "fenghuo.corpus.vocabulary:train": note("vocab"),
            "fenghuo.compress.vocabulary:prune": note("prune", SimpleNamespace(lines=lambda: ["cut"])),
            "fenghuo.compress.export:export": note("export"),
            "fenghuo.serve.stream:predict_stream": note("predict", 1),
            "fenghuo.serve.server:serve": note("serve"),
            "fenghuo.report.page:write_report": note("report"),
            "fenghuo.report.page:write_page": note("page"),
        },
    )
    monkeypatch.setenv("FENGHUO_PORT", "81")
    monkeypatch.setenv("FENGHUO_HOST", "0.0.0.0")
    assert run(capfd, "demo", "--out", "d", "--scale", "full").code == 0
    words = ["--input", "a", "--input", "b", "--size", "9", "--keep-case", "--out", "v", "--text-key", "k"]
    assert run(capfd, "vocab", "train", *words).code == 0
    told = run(capfd, "vocab", "prune", "m", "--input", "a", "--out", "o", "--size", "9", "--keep-characters")
    assert (told.code, told.out) == (0, "cut\n")
    assert run(capfd, "export", "m").code == 0
    assert run(capfd, "predict", "m", "--all-scores", "--input", "x").code == 1
    assert run(capfd, "serve", "m", "--host", "::1", "--threads", "2").code == 0
    told = run(capfd, "report", "r1", "r2", "--out", "o.html")
    assert (told.code, told.err) == (0, "o.html: 2 runs on one page\n")
    assert [call for call in calls if call[0] != "tellers"] == [
        ("demo", (Path("d"), "full", ANY), {}),
        (
            "vocab",
            (["a", "b"], Path("v")),
            {"text_key": "k", "kind": "wordpiece", "size": 9, "lowercase": False, "min_frequency": 2},
        ),
        (
            "prune",
            (Path("m"), ["a"], Path("o")),
            {"text_key": "text", "size": 9, "min_frequency": 1, "keep": None, "keep_characters": True},
        ),
        ("export", (Path("m"), "onnx", None), {}),
        ("predict", (Path("m"), "x", "-", True, 256), {}),
        ("serve", (Path("m"),), {"host": "::1", "port": 81, "threads": 2, **limits()}),
        ("report", ([Path("r1"), Path("r2")], Path("o.html")), {}),
    ]


def limits() -> dict[str, Any]:
    return {"max_batch_tokens": 2048, "max_queue": 512, "api_key": None}


def test_evaluate_prints_a_table_or_json(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {"task": "classify", "examples": 3, "metrics": {"accuracy": 0.5}}
    calls: list[tuple[Any, ...]] = []

    def evaluate(*given: Any) -> dict[str, Any]:
        calls.append(given)
        return result

    stand_in(monkeypatch, {"fenghuo.report.evaluate:evaluate": evaluate})
    assert run(capfd, "evaluate", "m", "--data", "d").out.split() == [
        "classify,",
        "3",
        "examples",
        "accuracy",
        "0.5000",
    ]
    assert json.loads(run(capfd, "evaluate", "m", "--data", "d", "--json").out) == result
    columns = ["--data.columns", "review", "--data.columns", "mark"]
    words = ["--data.text", "review", "--data.format", "csv", *columns]
    assert run(capfd, "evaluate", "m", "--data", "d", *words).code == 0
    layout = {"text": "review", "columns": ["review", "mark"], "format": "csv"}
    assert calls == [(Path("m"), Path("d"), None, {})] * 2 + [(Path("m"), Path("d"), None, layout)]


def test_the_ledger_is_printed_before_its_gate_fails(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gate(rows: list[str], max_drop: float) -> None:
        raise GateError(f"drop of more than {max_drop}")

    places = {"ledger": list, "render": lambda rows: "a table", "to_json": lambda rows: "[]", "gate": gate}
    stand_in(monkeypatch, {f"fenghuo.report.ledger:{name}": value for name, value in places.items()})
    assert run(capfd, "ledger", "r").code == 0
    told = run(capfd, "ledger", "r", "--max-drop", "1.5", "--json")
    assert (told.code, told.out) == (3, "[]\n")
    assert "drop of more than 1.5" in told.err


def test_a_full_disk_outside_a_run_is_told_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "o.html")

    stand_in(monkeypatch, {"fenghuo.report.page:write_report": full})
    told = run(capfd, "report", "r")
    assert told.code == 1
    assert "cannot write o.html: No space left on device" in told.err
    assert "MB free" in told.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_stdout_on_a_full_disk_is_told_by_its_name() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    words = [sys.executable, "-m", "fenghuo", "--version"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            words, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, "fenghuo: cannot write stdout: No space left on device\n")


def test_every_verb_is_in_the_order_of_the_help() -> None:
    from fenghuo.cli import _ORDER

    assert sorted(_ORDER) == sorted({*REAL, *PLAIN, *SUBVERBS})
