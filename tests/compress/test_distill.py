"""Teacher → student as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.corpus.texts import build, recipe_of, write_paragraphs

from fenghuo.compress.distill import plan, run
from fenghuo.compress.recipe import DistillRecipe
from fenghuo.config import build_recipe
from fenghuo.errors import ModelError, RecipeError
from fenghuo.finetune.recipe import FinetuneRecipe
from fenghuo.finetune.run import run as finetune
from fenghuo.models.folder import load_model, save_model
from fenghuo.models.recipe import ModelRecipe
from fenghuo.rundir import RunDir, sha256_of
from fenghuo.text.vocabulary import train_vocabulary

STUDENT = {"layers": 1, "layer_groups": 1, "width": 16, "embed_width": 16, "inner_width": 32, "heads": 2}


@pytest.fixture(scope="module")
def teacher(pretrained: Path, rows_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    recipe = build_recipe(
        FinetuneRecipe,
        {
            "model": {"folder": str(pretrained)},
            "task": {"kind": "classify", "max_length": 32},
            "data": {name: str(rows_folder / f"{name}.tsv") for name in ("train", "dev", "test")},
            "optimizer": {"learning_rate": 3e-3},
            "train": {"epochs": 8, "seed": 1},
        },
    )
    finetune(recipe, RunDir.open(out, verb="finetune", recipe=recipe))
    return out


def values(teacher: Path, rows_folder: Path, student: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "stage": "task",
        "teacher": str(teacher),
        "student": student,
        "data": {name: str(rows_folder / f"{name}.tsv") for name in ("train", "dev", "test")},
        "intermediate": {"epochs": 2, "learning_rate": 3e-3},
        "optimizer": {"learning_rate": 5e-3},
        "train": {"epochs": 8, "seed": 1},
        **more,
    }


@pytest.fixture(scope="module")
def fresh_student() -> dict[str, Any]:
    return {"preset": "nezha-4l-312", "values": STUDENT}


@pytest.mark.slow
def test_a_student_learns_the_teachers_answers(
    teacher: Path, rows_folder: Path, fresh_student: dict[str, Any], tmp_path: Path
) -> None:
    recipe = build_recipe(DistillRecipe, values(teacher, rows_folder, fresh_student))
    assert "parameters" in plan(recipe)
    run(recipe, RunDir.open(tmp_path / "run", verb="distill", recipe=recipe))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    taught = json.loads((teacher / "result.json").read_text())
    assert taught["value"] > 0.9
    assert result["value"] > taught["value"] - 0.1
    assert (result["role"], result["metric"]) == ("student", "accuracy")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("train/attention" in line for line in lines)
    assert any("train/prediction" in line for line in lines)
    numbers = [line["step"] for line in lines]
    assert numbers == sorted(numbers), "stage 2 goes on counting where stage 1 ended"
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["inputs"][0]["role"] == "teacher"
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["fenghuo"]["task"]["labels"] == ["bad", "good"]


@pytest.mark.slow
def test_a_run_cut_off_in_either_stage_ends_in_the_same_bits(
    teacher: Path,
    rows_folder: Path,
    fresh_student: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = {"epochs": 2, "seed": 1, "save_every": 2}
    recipe = build_recipe(DistillRecipe, values(teacher, rows_folder, fresh_student, train=train))
    run(recipe, RunDir.open(tmp_path / "whole", verb="distill", recipe=recipe))

    from fenghuo.training.session import Session

    save = Session.save
    saved = 0

    def save_and_fall(self: Session) -> None:
        nonlocal saved
        save(self)
        saved += 1
        if saved in (2, 9):
            raise KeyboardInterrupt

    monkeypatch.setattr(Session, "save", save_and_fall)
    for _ in range(2):
        folder = RunDir.open(tmp_path / "cut", verb="distill", recipe=recipe)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, folder)
        folder.close()
    run(recipe, RunDir.open(tmp_path / "cut", verb="distill", recipe=recipe))
    name = "model/model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_unlabelled_augmented_rows_are_learned_from(
    teacher: Path, rows_folder: Path, fresh_student: dict[str, Any], tmp_path: Path
) -> None:
    extra = tmp_path / "augmented.jsonl"
    extra.write_text('{"text": "早餐很好，酒店不错。", "source": "x"}\n' * 40, encoding="utf-8")
    recipe = build_recipe(
        DistillRecipe,
        values(
            teacher,
            rows_folder,
            fresh_student,
            augmented=str(extra),
            intermediate=None,
            train={"steps": 3, "seed": 1},
        ),
    )
    run(recipe, RunDir.open(tmp_path / "run", verb="distill", recipe=recipe))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["rows"] == 240


def test_general_distillation_reads_raw_text_and_says_what_it_made(
    pretrained: Path, fresh_student: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_paragraphs(tmp_path / "raw.txt", [["酒店很好，推荐。", "房间太差，失望。"]] * 20)
    raw = recipe_of({"path": str(tmp_path / "raw.txt")}, pretrained, heldout=0, dedup={"exact": False})
    build(tmp_path / "corpus", raw)
    recipe = build_recipe(
        DistillRecipe,
        {
            "stage": "general",
            "teacher": str(pretrained),
            "student": fresh_student,
            "corpus": str(tmp_path / "corpus"),
            "train": {"steps": 2, "seed": 1},
        },
    )
    capsys.readouterr()
    run(recipe, RunDir.open(tmp_path / "run", verb="distill", recipe=recipe))
    result = RunDir.read_result(tmp_path / "run")
    assert result["role"] == "pretrained"
    assert capsys.readouterr().err == (
        f"{tmp_path / 'run' / 'model'}: a student of {result['parameters']:,} parameters, "
        f"loss {result['value']:.4f}\n"
    )

    further = recipe.model_copy(update={"student": ModelRecipe(folder=tmp_path / "run")})
    run(further, RunDir.open(tmp_path / "further", verb="distill", recipe=further))
    inputs = RunDir.read_environment(tmp_path / "further")["inputs"]
    assert [one["role"] for one in inputs] == ["teacher", "student", "corpus"]
    assert inputs[1]["sha256"] == sha256_of(tmp_path / "run" / "model" / "model.safetensors")
    train_vocabulary(["完全不同的文字"] * 3, size=60, min_frequency=1).save(tmp_path / "run" / "model")
    with pytest.raises(ModelError, match="both must be one tokenizer"):
        plan(further)


def test_mistakes_are_told(
    teacher: Path, pretrained: Path, rows_folder: Path, fresh_student: dict[str, Any], tmp_path: Path
) -> None:
    def fails(error: type[Exception], message: str, **more: Any) -> None:
        recipe = build_recipe(DistillRecipe, values(teacher, rows_folder, fresh_student) | more)
        folder = RunDir.open(tmp_path / message[:5], verb="distill", recipe=recipe)
        with pytest.raises(error, match=message):
            run(recipe, folder)
        folder.close()

    fails(ModelError, "answers no task yet", teacher=str(pretrained))
    fails(RecipeError, "data.train is missing", data=None)
    fails(RecipeError, "corpus is missing", stage="general", data=None, intermediate=None)
    fails(ModelError, "not a model folder", teacher=str(tmp_path))
    other = tmp_path / "other"
    save_model(load_model(pretrained), other)
    train_vocabulary(["完全不同的文字"] * 3, size=60, min_frequency=1).save(other)
    fails(ModelError, "both must be one tokenizer", student={"folder": str(other)})


def test_keys_that_would_be_ignored_are_refused(
    teacher: Path, rows_folder: Path, fresh_student: dict[str, Any]
) -> None:
    given = values(teacher, rows_folder, fresh_student)
    with pytest.raises(RecipeError, match="'data' has no part in the general stage"):
        build_recipe(DistillRecipe, given | {"stage": "general"})
    general = {name: value for name, value in given.items() if name not in ("data", "intermediate")}
    for judged in ({"patience": 2}, {"evaluate_every": 5}):
        with pytest.raises(
            RecipeError, match=f"'train.{next(iter(judged))}' has no part in the general stage"
        ):
            build_recipe(
                DistillRecipe, general | {"stage": "general", "corpus": "c", "train": {"steps": 9, **judged}}
            )
    with pytest.raises(RecipeError, match=r"'student\.tokenizer' has no part in distillation"):
        build_recipe(DistillRecipe, given | {"student": {**fresh_student, "tokenizer": "v"}})
    with pytest.raises(RecipeError, match="nothing inside the teacher is imitated"):
        build_recipe(DistillRecipe, given | {"match": {"embeddings": 0, "hidden": 0, "attention": 0}})
