"""Every family goes the whole way: fine-tuned, distilled, exported, made int8, and asked through torch and
onnxruntime with the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.text.small_files import write_roberta, write_xlm

from fenghuo.compress.distill import run as distill
from fenghuo.compress.export import FILE
from fenghuo.compress.onnx_call import open_session
from fenghuo.compress.quantize import run as quantize
from fenghuo.compress.quantize import session_logits
from fenghuo.compress.recipe import DistillRecipe, QuantizeRecipe
from fenghuo.config import build_recipe
from fenghuo.errors import ModelError
from fenghuo.finetune.recipe import FinetuneRecipe
from fenghuo.finetune.run import run as finetune
from fenghuo.models import FAMILIES
from fenghuo.models.folder import build, load_model, save_model
from fenghuo.models.start import task_block_of
from fenghuo.net.config import HeadsConfig
from fenghuo.rundir import RunDir
from fenghuo.serve.predictor import load_predictor
from fenghuo.tasks.evaluate import asked_logits
from fenghuo.tasks.read_data import read_rows
from fenghuo.tasks.task import task_from_block
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary

pytestmark = pytest.mark.slow

# Large weights, so that answers differ from text to text; short positions, so that what counts wrongly falls out.
SHAPE = {"layers": 1, "width": 16, "heads": 2, "initializer_range": 0.2}
MORE = {
    "albert": {"embed_width": 8},
    "albert_zh": {"embed_width": 8},
    "ernie": {"tasks": 3},
    "ernie_thu": {"layer_types": ("norm",), "entity_width": 8, "entity_heads": 2},
    "xlm": {"languages": 2},
}
MAX_LENGTH = 24
TEXTS = [
    ("好", "Wind and fire，服务很好，推荐。"),
    ("坏", "价格太贵，失望 about this。"),
    ("好", "酒店不错"),
    ("坏", "房间糟糕，后悔，后悔，后悔，再也不来 hello hello hello"),
]
TAGGED = ["李 B-PER\n明 I-PER\n在 O\n北 B-LOC\n京 I-LOC\n", "王 B-PER\n芳 I-PER\n去 O\n上 B-LOC\n海 I-LOC\n"]
ASKED = {
    "classify": [{"text": text} for _, text in TEXTS],
    "pair": [{"text": a, "text_pair": b} for (_, a), (_, b) in zip(TEXTS, reversed(TEXTS), strict=True)],
    "tag": [{"text": text} for text in ("李明在北京", "王芳去上海", "北京" * 30, "hello 李 world 明")],
}
SUFFIX = {"classify": "tsv", "pair": "pairs.tsv", "tag": "txt"}
EXPORTED = {
    "bert": "pair",
    "nezha": "tag",
    "roberta": "pair",
    "albert": "classify",
    "albert_zh": "tag",
    "ernie": "pair",
    "ernie_thu": "tag",
    "xlm": "pair",
    "tinybert": "classify",
}
"""An export takes seconds: each family's is of one task, and all tasks are there."""
VOCABULARY = dict.fromkeys(FAMILIES, "wordpiece") | {"roberta": "bytes", "xlm": "xlm"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of each kind and three vocabularies."""
    folder = tmp_path_factory.mktemp("families")
    rows = "".join(f"{label}\t{text}\n" for label, text in TEXTS * 2)
    (folder / "rows.tsv").write_text(f"label\ttext\n{rows}", encoding="utf-8")
    pairs = "".join(f"{a}\t{b}\t{int(x == y)}\n" for x, a in TEXTS for y, b in TEXTS)
    (folder / "rows.pairs.tsv").write_text(f"text\ttext_pair\tlabel\n{pairs}", encoding="utf-8")
    (folder / "rows.txt").write_text("\n".join(TAGGED * 4) + "\n", encoding="utf-8")
    words = [text for _, text in TEXTS] + ["李明在北京", "王芳去上海"]
    train_vocabulary(words * 3, size=200, min_frequency=1).save(folder / "wordpiece")
    write_roberta(folder / "bytes", words * 3, size=300)
    write_xlm(folder / "xlm", words * 3, size=200)
    return folder


def preset(family: str) -> dict[str, Any]:
    return {"preset": next(iter(FAMILIES[family].presets)), "values": _values(family)}


def _values(family: str) -> dict[str, Any]:
    card = FAMILIES[family]
    values = {**SHAPE, **MORE.get(family, {})}
    if "intermediate_size" in card.config_keys:
        values["inner_width"] = 32
    if card.defaults.get("position") == "learned":
        values["max_length"] = MAX_LENGTH + card.defaults.get("first_position", 0)
    return values


def finetuned(place: Path, family: str, kind: str, out: Path, vocabulary: str | None = None) -> Path:
    rows = str(place / f"rows.{SUFFIX[kind]}")
    recipe = build_recipe(
        FinetuneRecipe,
        {
            "model": {
                **preset(family),
                "tokenizer": str(place / (vocabulary or VOCABULARY[family])),
            },
            "task": {"kind": kind, "max_length": MAX_LENGTH},
            "data": {"train": rows, "test": rows},
            "batch": {"rows": 4},
            "optimizer": {"learning_rate": 1e-3},
            "train": {"steps": 2, "seed": 1},
        },
    )
    finetune(recipe, RunDir.open(out, verb="finetune", recipe=recipe))
    return out / "model"


def alike(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Equal answers with equal scores, to what the order of additions changes."""
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        for a, b in zip(one.get("entities", [one]), other.get("entities", [other]), strict=True):
            assert {**a, "score": 0} == {**b, "score": 0}
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_a_model_that_only_hears_what_came_before_is_no_classifier(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a classifier reads the first piece, which hears nothing"):
        finetuned(place, "transfo-xl", "classify", tmp_path / "run")


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"transfo-xl"}))
def test_every_family_is_fine_tuned_for_every_task_and_its_folder_answers(
    place: Path, family: str, tmp_path: Path
) -> None:
    for kind, asked in ASKED.items():
        folder = finetuned(place, family, kind, tmp_path / kind)
        assert json.loads((folder / "config.json").read_text())["model_type"] == family
        assert len(load_predictor(folder, backend="torch")(asked)) == len(asked)
        # One text is computed alone, all together: neither padding nor neighbours change an answer.
        alone = [load_predictor(folder, backend="torch")([row])[0] for row in asked[:2]]
        alike(alone, load_predictor(folder, backend="torch")(asked)[:2])


@pytest.mark.parametrize(("family", "kind"), EXPORTED.items())
def test_every_family_is_exported_and_made_int8_and_answers_as_in_training(
    place: Path, family: str, kind: str, tmp_path: Path
) -> None:
    asked, rows = ASKED[kind], place / f"rows.{SUFFIX[kind]}"
    folder = finetuned(place, family, kind, tmp_path / "run")
    recipe = build_recipe(
        QuantizeRecipe,
        {"model": str(folder), "evaluate": {"data": {"test": str(rows)}, "max_drop": 100}},
    )
    made = RunDir.open(tmp_path / "int8", verb="quantize", recipe=recipe)
    quantize(recipe, made)  # it exports first

    block = task_block_of(folder)
    assert block is not None
    task, tokenizer = task_from_block(block), Tokenizer.load(folder)
    examples = task.examples(read_rows(rows, recipe.evaluate.data, kind=kind), tokenizer)
    session, pad_id = open_session(made.model / FILE), tokenizer.vocabulary.pad
    ragged = session_logits(session, task, examples, pad_id)
    for mine, theirs in zip(ragged, asked_logits(load_model(folder), task, examples), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)

    answers = load_predictor(folder, backend="torch")(asked)
    alike(load_predictor(made.model, backend="onnx")(asked), answers)
    assert json.loads((made.path / "result.json").read_text())["agreement"] > 0.7
    assert len(load_predictor(made.model, backend="int8")(asked)) == len(asked)


def distilled(place: Path, teacher: Path, student: dict[str, Any], out: Path) -> Path:
    rows = str(place / "rows.pairs.tsv")
    recipe = build_recipe(
        DistillRecipe,
        {
            "stage": "task",
            "teacher": str(teacher),
            "student": student,
            "data": {"train": rows, "test": rows},
            "intermediate": {"steps": 2},
            "batch": {"rows": 4},
            "train": {"steps": 2, "seed": 1},
        },
    )
    distill(recipe, RunDir.open(out, verb="distill", recipe=recipe))
    return out / "model"


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("albert", "nezha"),
        ("albert_zh", "roberta"),
        ("roberta", "bert"),
        ("xlm", "tinybert"),
        ("ernie", "xlm"),
    ],
)
def test_any_family_teaches_any_other_on_its_vocabulary(
    place: Path, teacher: str, student: str, tmp_path: Path
) -> None:
    taught = finetuned(place, teacher, "pair", tmp_path / "teacher")
    made = distilled(place, taught, preset(student), tmp_path / "student")
    assert load_model(made).family == student
    assert Tokenizer.load(made).fingerprint == Tokenizer.load(taught).fingerprint
    assert len(load_predictor(made, backend="torch")(ASKED["pair"])) == len(ASKED["pair"])


def test_a_student_with_another_vocabulary_is_refused_whether_it_has_as_many_pieces_or_not(
    place: Path, tmp_path: Path
) -> None:
    teacher = finetuned(place, "roberta", "pair", tmp_path / "teacher")
    theirs = Tokenizer.load(teacher).vocabulary.size
    for name, size, pieces, message in (
        ("smaller", theirs - 7, place / "wordpiece", "both must be one tokenizer"),
        ("as large", theirs, place / "wordpiece", "both must be one tokenizer"),
        ("short", theirs - 7, teacher, f"vectors for {theirs - 7} pieces, where the tokenizer has {theirs}"),
    ):
        folder = tmp_path / name
        save_model(
            build(None, family="bert", values=_values("bert"), vocab=size, heads=HeadsConfig(), seed=0),
            folder,
        )
        Tokenizer.load(pieces).save(folder)
        with pytest.raises(ModelError, match=message):
            distilled(place, teacher, {"folder": str(folder)}, tmp_path / f"student {name}")
