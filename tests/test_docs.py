"""Documents that do not lead astray: links, files, verbs, and the README's commands, run as written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fenghuo.cli import build_app, main
from fenghuo.cli.verbs import PLAIN, STAGES, SUBVERBS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name(page)} links to {target}"


def test_pages_that_the_code_names_are_there() -> None:
    for source in (
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ):
        for page in re.findall(r"docs/[\w/-]+\.md", source.read_text(encoding="utf-8")):
            assert (ROOT / page).exists(), f"{name(source)} names {page}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_verbs_and_make_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    verbs = {*STAGES, *PLAIN, *SUBVERBS, "VERB"}
    for verb in re.findall(r"(?:^\s{4}|`|\| )fenghuo ([a-z]+)\b", text, re.M):
        assert verb in verbs, f"{name(page)}: fenghuo {verb}"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^\s+|`)make ([a-z]+)\b", text, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), f"{name(page)}: make {target}"


def test_the_docs_index_knows_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, (
            f"docs/README.md does not name {page.name}"
        )


@pytest.mark.slow
def test_the_readmes_five_commands_and_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run on small random encoders: what is tested is that every flag and path fits the next command."""
    monkeypatch.chdir(tmp_path)
    small_encoders(tmp_path / "fenghuo-demo")
    rows = [("positive", f"服务很好，第{n}次来") for n in range(24)] + [
        ("negative", f"房间太吵，第{n}次了") for n in range(24)
    ]
    for file, chosen in (("reviews.csv", rows), ("dev.csv", rows[::3])):
        (tmp_path / file).write_text(
            "label,text\n" + "".join(f"{a},{b}\n" for a, b in chosen), encoding="utf-8"
        )

    (block,) = blocks(ROOT / "README.md", "bash")
    commands = [shlex.split(line)[1:] for line in block.replace("\\\n", " ").splitlines()]
    assert [command[0] for command in commands] == ["finetune", "distill", "quantize", "ledger", "serve"]
    for command in commands[:-1]:
        assert main(command) == 0, capsys.readouterr().err
    assert "runs/student" in capsys.readouterr().out
    assert Path(commands[-1][1], "model", "config.json").is_file()
    assert build_app("serve")[commands[-1][0]] is not None

    (python,) = blocks(ROOT / "README.md", "python")
    exec(compile(python, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("'label'") == 2
    assert (tmp_path / "copy" / "model.safetensors").is_file()


def small_encoders(folder: Path) -> None:
    """`pretrained` and `student`, as the demo leaves them, with random weights."""
    pytest.importorskip("torch")
    from fenghuo.models.build import build
    from fenghuo.models.folder import save_model
    from fenghuo.net.model import HeadsConfig
    from fenghuo.text.vocabulary import train_vocabulary

    tokenizer = train_vocabulary(["服务很好，第次来房间太吵，了0123456789"] * 3, size=60)
    for run, width in (("pretrained", 32), ("student", 16)):
        model = build(
            "nezha-4l-312",
            family=None,
            values={
                "layers": 2,
                "layer_groups": 2,
                "heads": 2,
                "width": width,
                "embed_width": width,
                "inner_width": 2 * width,
            },
            vocab=tokenizer.vocabulary.size,
            heads=HeadsConfig(),
            seed=1,
        )
        save_model(model, folder / run / "model")
        tokenizer.save(folder / run / "model")
