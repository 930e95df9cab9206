"""Fine-tuning as a user runs it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from fenghuo.config import build_recipe
from fenghuo.errors import DataError, RecipeError, StoppedError
from fenghuo.finetune import run as module
from fenghuo.finetune.recipe import FinetuneRecipe
from fenghuo.finetune.run import plan, run
from fenghuo.models.start import task_block_of
from fenghuo.rundir import RunDir
from fenghuo.tasks.evaluate import evaluate_model
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary
from fenghuo.training.session import Session

TINY = {"layers": 1, "layer_groups": 1, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
TEXTS = [
    ("好", "服务很好，推荐。"),
    ("坏", "价格太贵，失望。"),
    ("好", "酒店不错，满意。"),
    ("坏", "房间糟糕，后悔。"),
]
SENTENCES = [
    "李 B-PER\n明 I-PER\n在 O\n北 B-LOC\n京 I-LOC\n",
    "王 B-PER\n芳 I-PER\n去 O\n上 B-LOC\n海 I-LOC\n了 O\n",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    rows = "".join(f"{label}\t{text}\n" for label, text in TEXTS)
    for name, times in (("train", 20), ("dev", 4), ("test", 5)):
        (folder / f"{name}.tsv").write_text("label\ttext\n" + rows * times, encoding="utf-8")
        (folder / f"{name}.txt").write_text("\n".join(SENTENCES * times) + "\n", encoding="utf-8")
        # Both must be good: it takes both texts, and no luck as "both alike" (an exclusive or) would.
        pairs = "".join(f"{a}\t{b}\t{int(x == y == '好')}\n" for x, a in TEXTS for y, b in TEXTS)
        (folder / f"{name}.pairs.tsv").write_text(
            "text\ttext_pair\tlabel\n" + pairs * times, encoding="utf-8"
        )
    words = [text for _, text in TEXTS] + ["李明在北京", "王芳去上海了"]
    train_vocabulary(words * 3, size=200, min_frequency=1).save(folder / "vocabulary")
    return folder


def recipe_of(folder: Path, kind: str, suffix: str, **more: Any) -> FinetuneRecipe:
    return build_recipe(
        FinetuneRecipe,
        {
            "model": {"preset": "nezha-4l-312", "values": TINY, "tokenizer": str(folder / "vocabulary")},
            "task": {"kind": kind, "max_length": 32},
            "data": {name: str(folder / f"{name}{suffix}") for name in ("train", "dev", "test")},
            "batch": {"rows": 16},
            "optimizer": {"learning_rate": 5e-3},
            "train": {"epochs": 10, "seed": 1},
            **more,
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "suffix", "metric"),
    [("classify", ".tsv", "accuracy"), ("pair", ".pairs.tsv", "accuracy"), ("tag", ".txt", "f1")],
)
def test_every_task_learns_what_can_be_learned(
    folder: Path, kind: str, suffix: str, metric: str, tmp_path: Path
) -> None:
    recipe = recipe_of(folder, kind, suffix)
    assert "parameters" in plan(recipe)
    run(recipe, RunDir.open(tmp_path / "run", verb="finetune", recipe=recipe))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test"][metric] == result["value"] > 0.9
    assert result["examples_file"].endswith(f"test{suffix}")
    block = task_block_of(tmp_path / "run")
    assert block is not None
    assert (block["kind"], block["metric"]) == (kind, metric)
    Tokenizer.load(tmp_path / "run" / "model")


def test_patience_ends_training_and_the_best_weights_are_kept(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(
        folder, "classify", ".tsv", train={"epochs": 60, "seed": 1, "patience": 2, "evaluate_every": 3}
    )
    run(recipe, RunDir.open(tmp_path / "run", verb="finetune", recipe=recipe))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] < 300
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = [line["dev/accuracy"] for line in lines if "dev/accuracy" in line]
    assert result["dev"]["accuracy"] == max(scores)
    assert scores.index(max(scores)) == len(scores) - 3


def test_a_signal_in_the_evaluation_that_ends_training_stops_and_the_same_recipe_goes_on_to_the_same_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"epochs": 4, "seed": 1, "patience": 1, "evaluate_every": 2, "save_every": 100}
    recipe = recipe_of(folder, "classify", ".tsv", optimizer={"learning_rate": 1e-9}, train=train)
    run(recipe, RunDir.open(tmp_path / "whole", verb="finetune", recipe=recipe))

    asked = 0

    def evaluate_and_signal(*given: Any) -> dict[str, float]:
        nonlocal asked
        asked += 1
        if asked == 2:
            signal.raise_signal(signal.SIGINT)
        return evaluate_model(*given)

    monkeypatch.setattr(module, "evaluate_model", evaluate_and_signal)
    begun = RunDir.open(tmp_path / "cut", verb="finetune", recipe=recipe)
    with pytest.raises(StoppedError, match="stopped at step 4 of 20, saved"):
        run(recipe, begun)
    begun.close()
    run(recipe, RunDir.open(tmp_path / "cut", verb="finetune", recipe=recipe))
    for name in ("model/model.safetensors", "metrics.jsonl"):
        whole, cut = ((tmp_path / one / name).read_bytes() for one in ("whole", "cut"))
        assert _untimed(whole) == _untimed(cut)
    steps = [json.loads((tmp_path / one / "result.json").read_text())["steps"] for one in ("whole", "cut")]
    assert steps == [4, 4]


def test_a_signal_while_the_last_checkpoint_is_written_stops(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(folder, "classify", ".tsv", train={"steps": 2, "seed": 1, "save_every": 100})
    save = Session.save

    def save_and_signal(self: Session) -> None:
        save(self)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Session, "save", save_and_signal)
    with pytest.raises(StoppedError, match="stopped at step 2 of 2, saved"):
        run(recipe, RunDir.open(tmp_path / "run", verb="finetune", recipe=recipe))


def test_a_kill_between_a_better_score_and_the_next_checkpoint_leaves_the_best_one_it_names(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine the steps that follow may not reach that better score again."""
    train = {"steps": 12, "seed": 1, "evaluate_every": 4, "save_every": 5}
    recipe = recipe_of(folder, "classify", ".tsv", train=train)
    scores = iter([0.5, 0.9])
    monkeypatch.setattr(module, "evaluate_model", lambda *_: {"accuracy": next(scores), "macro_f1": 0.0})
    save = Session.save

    def killed_at_the_second(self: Session) -> None:
        if self.done > 5:
            raise MemoryError("as if killed")
        save(self)

    monkeypatch.setattr(Session, "save", killed_at_the_second)
    begun = RunDir.open(tmp_path / "run", verb="finetune", recipe=recipe)
    with pytest.raises(MemoryError):
        run(recipe, begun)
    begun.close()
    monkeypatch.setattr(Session, "save", save)
    monkeypatch.setattr(module, "evaluate_model", lambda *_: {"accuracy": 0.4, "macro_f1": 0.0})
    run(recipe, RunDir.open(tmp_path / "run", verb="finetune", recipe=recipe))
    assert [path.name for path in (tmp_path / "run" / "checkpoints" / "best").iterdir()] == ["step-4"]


def _untimed(content: bytes) -> bytes:
    return re.sub(rb'"train/pieces_per_s": [0-9.e+]+', b"", content)


def test_labels_in_another_order_keep_the_folders_order(folder: Path, tmp_path: Path) -> None:
    """A model fine-tuned further on rows whose labels are found in another order must not swap its outputs."""
    first = recipe_of(
        folder, "classify", ".tsv", task={"kind": "classify", "labels": ["坏", "好"], "max_length": 32}
    )
    run(first, RunDir.open(tmp_path / "first", verb="finetune", recipe=first))
    further = recipe_of(
        folder,
        "classify",
        ".tsv",
        model={"folder": str(tmp_path / "first")},
        optimizer={"learning_rate": 1e-9},
        train={"steps": 1, "seed": 1},
    )
    run(further, RunDir.open(tmp_path / "further", verb="finetune", recipe=further))
    block = task_block_of(tmp_path / "further")
    assert block is not None
    assert block["labels"] == ["坏", "好"]
    before, after = (
        json.loads((tmp_path / name / "result.json").read_text())["value"] for name in ("first", "further")
    )
    assert after == before


def test_mistakes_are_told(folder: Path, tmp_path: Path) -> None:
    def fails(error: type[Exception], message: str, **more: Any) -> None:
        with pytest.raises(error, match=message):
            plan(recipe_of(folder, "classify", ".tsv", **more))

    data = {"train": str(folder / "train.tsv")}
    (tmp_path / "dev.tsv").write_text("label\ttext\n很好\t服务\n", encoding="utf-8")
    fails(DataError, r"dev.tsv:2: unknown label '很好'", data={**data, "dev": str(tmp_path / "dev.tsv")})
    fails(RecipeError, "data.train is missing", data={"dev": str(folder / "dev.tsv")})
    fails(RecipeError, "model.tokenizer is missing", model={"preset": "nezha-4l-312", "values": TINY})
    both = {"folder": str(tmp_path), "tokenizer": str(folder / "vocabulary")}
    fails(RecipeError, "'tokenizer' has no part beside 'folder'", model=both)
    fails(DataError, "no column 'body'", data={**data, "text": "body"})
