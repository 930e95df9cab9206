"""Every task keeps the room's contract: shapes, answers that undo labels, loss at the start, errors with a place."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fenghuo.tasks
from fenghuo.corpus.loader import collate
from fenghuo.errors import DataError
from fenghuo.net.config import EncoderConfig
from fenghuo.net.initial import build_model
from fenghuo.net.model import Model
from fenghuo.tasks import TASKS
from fenghuo.tasks.evaluate import asked_logits, batches_by_length, evaluate_model
from fenghuo.tasks.learner import TaskLearner
from fenghuo.tasks.read_data import Row
from fenghuo.tasks.recipe import TaskRecipe
from fenghuo.tasks.task import (
    Task,
    asked_labels,
    build_task,
    label_set,
    prepare,
    task_block,
    task_from_block,
    task_from_rows,
)
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.training.loop import to_tensors

LABELS = {
    "classify": ["bad", "good"],
    "pair": ["0", "1", "2"],
    "tag": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"],
}
ROWS = {
    "classify": [Row("f:1", "服务很好", label="good"), Row("f:2", "价格太贵了，不推荐。", label="bad")],
    "pair": [Row("f:1", "服务很好", "酒店也不错", "1"), Row("f:2", "李明在北京", "王芳说", "2")],
    "tag": [
        Row("f:1", "李明在北京工作。", entities=((0, 2, "PER"), (3, 5, "LOC"))),
        Row("f:2", "New York 的酒店", entities=((0, 8, "LOC"),)),
        Row("f:3", "", entities=()),
    ],
}


def task_of(kind: str, max_length: int = 32) -> Task:
    return build_task(TaskRecipe(kind=kind, max_length=max_length), LABELS[kind])


def model_of(task: Task, tokenizer: Tokenizer) -> Model:
    config = EncoderConfig(
        vocab=tokenizer.vocabulary.size, layers=2, width=16, heads=2, inner_width=32, position="nezha"
    )
    return build_model(config, task.heads(), seed=0)


def test_the_rooms_dict_names_every_task() -> None:
    for kind, home in TASKS.items():
        task = task_of(kind)
        assert task.kind == kind
        assert "arXiv" in task.citation
        assert home.startswith("fenghuo.tasks.")
    found = set()
    for path in Path(fenghuo.tasks.__file__).parent.glob("*.py"):
        if path.stem != "task":  # the contract itself
            module = import_module(
                f"fenghuo.tasks.{path.stem}" if path.stem != "__init__" else "fenghuo.tasks"
            )
            found |= {
                f"{module.__name__}:{name}"
                for name, value in vars(module).items()
                if isinstance(value, type)
                and value.__module__ == module.__name__
                and hasattr(value, "citation")
            }
    assert found == set(TASKS.values())


@pytest.mark.parametrize("kind", TASKS)
def test_the_loss_begins_at_the_log_of_the_number_of_choices(kind: str, tokenizer: Tokenizer) -> None:
    task = task_of(kind)
    model = model_of(task, tokenizer)
    none = np.random.default_rng(0)
    batch = collate([prepare(example, none) for example in task.examples(ROWS[kind], tokenizer)])
    learner = TaskLearner(model, task)
    terms = learner.terms(to_tensors(batch, torch.device("cpu")))
    mean = terms.loss["label"].item() / learner.counts(batch)["label"]
    assert mean == pytest.approx(math.log(len(LABELS[kind])), rel=0.1)


@pytest.mark.parametrize("kind", TASKS)
def test_perfect_logits_give_the_gold_answers(kind: str, tokenizer: Tokenizer) -> None:
    task = task_of(kind)
    examples = task.examples(ROWS[kind], tokenizer)
    perfect = [
        10 * np.eye(len(task.labels))[np.atleast_1d(asked_labels({"labels": e.labels}))] for e in examples
    ]
    answers = task.answers(ROWS[kind], examples, perfect, tokenizer)
    assert answers == [task.gold(row) for row in ROWS[kind]]
    assert task.score([task.gold(row) for row in ROWS[kind]], answers)[task.metric] == 1.0


@pytest.mark.parametrize("kind", TASKS)
def test_a_models_figures_do_not_depend_on_how_rows_are_batched(kind: str, tokenizer: Tokenizer) -> None:
    task = task_of(kind)
    model = model_of(task, tokenizer).eval()
    rows = ROWS[kind] * 9
    examples = task.examples(rows, tokenizer)
    together = asked_logits(model, task, examples)
    for example, logits in zip(examples, together, strict=True):
        alone = asked_logits(model, task, [example])[0]
        np.testing.assert_allclose(logits, alone, atol=1e-5)
    assert 0 <= evaluate_model(model, task, rows, examples, tokenizer)[task.metric] <= 1


@given(
    st.lists(st.sampled_from("李明在北京工作上海的王芳，。"), min_size=1, max_size=80).map("".join),
    st.integers(5, 20),
    st.data(),
)
def test_no_entity_is_lost_in_a_long_text(
    tokenizer: Tokenizer, text: str, max_length: int, data: st.DataObject
) -> None:
    """Windows cut the text; joined again, perfect tags give every entity back, across the cuts too."""
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = tuple((a, b, "PER") for a, b in zip(edges[::2], edges[1::2], strict=False))
    row = Row("f:1", text, entities=spans)
    task = task_of("tag", max_length)
    examples = task.examples([row], tokenizer)
    assert all(len(example.pieces) <= max_length for example in examples)
    perfect = [10 * np.eye(len(task.labels))[e.labels[e.labels != -100]] for e in examples]
    assert task.answers([row], examples, perfect, tokenizer) == [spans]


def test_the_asked_labels_stand_beside_the_asked_logits(tokenizer: Tokenizer) -> None:
    task = task_of("tag")
    examples = task.examples(ROWS["tag"], tokenizer)
    batch = to_tensors(collate([prepare(e, np.random.default_rng(0)) for e in examples]), torch.device("cpu"))
    logits = task.asked(model_of(task, tokenizer), batch)
    assert len(logits) == len(asked_labels(batch)) == sum(len(tokenizer.encode(r.text)) for r in ROWS["tag"])


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("classify", Row("f:7", "好", label="goood"), r"f:7: unknown label 'goood'. Did you mean 'good'"),
        (
            "tag",
            Row("f:8", "李明", entities=((0, 2, "PRE"),)),
            r"f:8: unknown entity label 'PRE'. Did you mean 'PER'",
        ),
    ],
)
def test_an_unknown_label_names_its_place(kind: str, row: Row, message: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=message):
        task_of(kind).examples([row], tokenizer)


def test_labels_come_in_numeric_order_and_a_block_brings_them_back() -> None:
    assert label_set(TaskRecipe(kind="classify"), {"10", "9", "-1"}, place="f") == ("-1", "9", "10")
    assert label_set(TaskRecipe(kind="classify"), {"b", "a"}, place="f") == ("a", "b")
    assert label_set(TaskRecipe(kind="classify"), {"2", "1", "01", "001"}, place="f") == (
        "001",
        "01",
        "1",
        "2",
    )
    for strange in ("①", "²", "--1", "1-", "١"):
        assert label_set(TaskRecipe(kind="classify"), {"1", strange}, place="f") == tuple(
            sorted({"1", strange})
        )
    with pytest.raises(ValueError, match="'a' is listed twice"):
        TaskRecipe(kind="classify", labels=["a", "b", "a"])
    with pytest.raises(DataError, match="at least two"):
        label_set(TaskRecipe(kind="classify"), {"1"}, place="f")
    with pytest.raises(DataError, match="'c' is not among"):
        label_set(TaskRecipe(kind="classify", labels=["a", "b"]), {"c"}, place="f")
    task = task_from_rows(TaskRecipe(kind="tag"), ROWS["tag"], place="f")
    assert task.labels == tuple(LABELS["tag"])
    assert task_block(task_from_block(task_block(task))) == task_block(task)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 60))
def test_batches_by_length_hold_every_example_once_and_their_budget(lengths: list[int], budget: int) -> None:
    from fenghuo.tasks.task import TaskExample

    examples = [TaskExample(0, np.zeros(n, np.int64), np.zeros(n, np.int64), np.array(0)) for n in lengths]
    groups = batches_by_length(examples, budget)
    assert sorted(number for group in groups for number in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[n] for n in group) <= budget for group in groups)
