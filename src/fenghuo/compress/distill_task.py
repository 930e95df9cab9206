"""Task distillation: a fine-tuned teacher's inside, then its answers (TinyBERT, arXiv 1909.10351, §3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.compress.imitation import inside, session_of
from fenghuo.compress.match import soft_cross_entropy
from fenghuo.compress.recipe import DistillRecipe
from fenghuo.corpus.loader import Loader
from fenghuo.errors import ModelError, RecipeError
from fenghuo.models.card import write_card
from fenghuo.models.folder import load_model, save_model
from fenghuo.models.start import model_folder, start_model, task_block_of, weights_file
from fenghuo.net.model import Model
from fenghuo.rundir import RunDir
from fenghuo.tasks.evaluate import asked_logits, evaluate_model
from fenghuo.tasks.read_data import Row, read_rows
from fenghuo.tasks.recipe import DataRecipe
from fenghuo.tasks.splits import Splits, read_splits
from fenghuo.tasks.task import (
    Task,
    TaskExample,
    TaskSource,
    asked_labels,
    prepare,
    task_block,
    task_from_block,
)
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.training.loop import Terms
from fenghuo.training.session import Session
from fenghuo.training.world import alone


def distill_task(recipe: DistillRecipe, run: RunDir) -> None:
    """Train the student on rows into `run`: inside first, where the recipe says so, then answers.

    Raises:
        RecipeError: the recipe names no training rows.
        ModelError: the teacher answers no task, or the student has another tokenizer.
    """
    tokenizer, task, splits = task_data(recipe)
    teacher = load_model(model_folder(recipe.teacher)).to(alone(recipe.train.device).device)
    student = start_model(
        recipe.student, task.heads(), tokenizer=tokenizer, seed=recipe.train.seed, max_length=task.max_length
    )
    assert recipe.data is not None
    files = (recipe.data.train, recipe.augmented, recipe.data.dev, recipe.data.test)
    starts = [("student", weights_file(recipe.student.folder))] if recipe.student.folder else []
    run.environment(
        seed=recipe.train.seed,
        inputs=[
            ("teacher", weights_file(recipe.teacher)),
            *starts,
            *(("data", path) for path in files if path is not None),
        ],
    )
    first, inside_s = _imitate_inside(recipe, run, teacher, student, splits)
    session = _imitate_answers(recipe, run, teacher, student, task, splits, tokenizer, first)
    student.eval()
    save_model(student, run.model, extra={"labels": list(task.labels), "fenghuo": {"task": task_block(task)}})
    tokenizer.save(run.model)
    result = {
        "role": "student",
        "task": task.kind,
        "metric": task.metric,
        "parameters": sum(weight.numel() for weight in student.parameters()),
        "rows": len(splits.train[0]),
        "steps": first + session.done,
        **session.result(),
        "train_s": round(inside_s + session.spent_s, 1),
        **splits.figures(
            lambda rows, examples: evaluate_model(student, task, rows, examples, tokenizer), task.metric
        ),
    }
    write_card(run.model, title=f"Student: {task.kind}", recipe=recipe, result=result)
    run.finish(result)


def task_data(recipe: DistillRecipe) -> tuple[Tokenizer, Task, Splits]:
    """The teacher's task and tokenizer; rows are those of the file and of its augmentation."""
    block = task_block_of(recipe.teacher)
    if block is None:
        raise ModelError(
            f"{recipe.teacher}: this model answers no task yet; fine-tune it before task distillation"
        )
    if recipe.data is None or recipe.data.train is None:
        raise RecipeError("data.train is missing: task distillation reads rows")
    tokenizer = Tokenizer.load(model_folder(recipe.teacher))
    task = task_from_block(block)
    rows = read_rows(recipe.data.train, recipe.data, kind=task.kind, labelled=False)
    if recipe.augmented is not None:
        rows = rows + read_rows(recipe.augmented, DataRecipe(format="jsonl"), kind=task.kind, labelled=False)
    return tokenizer, task, read_splits(task, recipe.data, tokenizer, train=_unlabelled(rows))


def _unlabelled(rows: Sequence[Row]) -> list[Row]:
    """Rows without their labels: the teacher gives the answers, and an unknown label must not stop it."""
    return [Row(row.place, row.text, row.text_pair) for row in rows]


def _imitate_inside(
    recipe: DistillRecipe, run: RunDir, teacher: Model, student: Model, splits: Splits
) -> tuple[int, float]:
    """Stage 1; its steps and seconds (0 where the recipe leaves it out)."""
    if recipe.intermediate is None:
        return 0, 0.0
    pair, learner = inside(recipe, teacher, student)
    loader = Loader.of(TaskSource(splits.train[1]), prepare, recipe.batch, seed=recipe.train.seed)
    session = session_of(recipe, run, pair, learner, loader, label="distill (inside)", intermediate=True)
    for _ in session:
        pass  # no dev set to stop by: this stage teaches no answers
    return session.done, session.spent_s


def _imitate_answers(
    recipe: DistillRecipe,
    run: RunDir,
    teacher: Model,
    student: Model,
    task: Task,
    splits: Splits,
    tokenizer: Tokenizer,
    first: int,
) -> Session:
    """Stage 2: soft cross-entropy with the teacher's answers, which are asked for once and kept."""
    examples = splits.train[1]
    run.log(f"asking the teacher about {len(examples):,} examples")
    source = SoftSource(examples, asked_logits(teacher, task, examples))
    loader = Loader.of(source, prepare_soft, recipe.batch, seed=recipe.train.seed)
    learner = ImitateAnswers(student, task, recipe.match.temperature)
    session = session_of(
        recipe,
        run,
        student,
        learner,
        loader,
        label="distill (answers)",
        first=first,
        evaluate_every=recipe.train.evaluate_every or loader.batches_per_epoch(),
    )
    for _ in session:
        if splits.dev is not None and session.due:
            figures = evaluate_model(student, task, *splits.dev, tokenizer)
            if not session.judge(figures[task.metric], figures, patience=recipe.train.patience):
                break
    session.restore_best()
    return session


class SoftSource(TaskSource):
    """Examples with the teacher's asked logits beside them."""

    def __init__(self, examples: Sequence[TaskExample], logits: Sequence[NDArray[Any]]) -> None:
        super().__init__(examples)
        self.logits = logits

    def __getitem__(self, index: int) -> Any:
        return self.examples[index], self.logits[index]


def prepare_soft(item: tuple[TaskExample, NDArray[Any]], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """As `prepare`, with the logits flat: batches concatenate along one axis."""
    example, logits_NC = item
    return {**prepare(example, rng), "teacher": logits_NC.reshape(-1)}


class ImitateAnswers:
    """Learner of the prediction loss; logits of the teacher come with the batch."""

    def __init__(self, student: Model, task: Task, temperature: float) -> None:
        self.student, self.task, self.temperature = student, task, temperature

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Asked sequences or pieces."""
        asked = float(len(asked_labels(batch)))
        return {"prediction": asked, "agreement": asked}

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Soft cross-entropy, and how often student and teacher say the same."""
        mine_NC = self.task.asked(self.student, batch)
        theirs_NC = batch["teacher"].view(mine_NC.shape)
        loss = soft_cross_entropy(mine_NC, theirs_NC, self.temperature)
        return Terms({"prediction": loss}, {"agreement": (mine_NC.argmax(-1) == theirs_NC.argmax(-1)).sum()})
