"""Rows + model + task → a fine-tuned model in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fenghuo.corpus.loader import Loader
from fenghuo.corpus.visits import Cursor
from fenghuo.errors import RecipeError
from fenghuo.finetune.recipe import FinetuneRecipe
from fenghuo.models.card import write_card
from fenghuo.models.folder import save_model
from fenghuo.models.start import model_folder, start_model, task_block_of, weights_file
from fenghuo.net.model import Model
from fenghuo.rundir import RunDir
from fenghuo.tasks.evaluate import evaluate_model
from fenghuo.tasks.learner import TaskLearner
from fenghuo.tasks.read_data import Row, read_rows
from fenghuo.tasks.recipe import TaskRecipe
from fenghuo.tasks.splits import Splits, read_splits
from fenghuo.tasks.task import Task, TaskSource, build_task, prepare, task_block, task_from_rows
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.training.course import course_of
from fenghuo.training.plan import training_plan
from fenghuo.training.process import prepare_process
from fenghuo.training.session import Session, iterate_from
from fenghuo.training.world import alone


def run(recipe: FinetuneRecipe, run: RunDir) -> None:
    """Fine-tune as the recipe says; a run that was cut off goes on."""
    prepare_process()
    tokenizer, task, splits, model = _set_up(recipe, run)
    loader = _loader(recipe, splits)
    batches = loader.batches_per_epoch()
    session = Session(
        run,
        model,
        learner=TaskLearner(model, task),
        iterate=iterate_from(loader.iterate, Cursor),
        course=course_of(recipe.train, recipe.train.total_steps(batches), began_s=run.began_s),
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        train=recipe.train,
        label="finetune",
        evaluate_every=recipe.train.evaluate_every or batches,
        world=alone(recipe.train.device),
    )
    for _ in session:
        if splits.dev is not None and session.due:
            figures = evaluate_model(model, task, *splits.dev, tokenizer)
            if not session.judge(figures[task.metric], figures, patience=recipe.train.patience):
                break
    session.restore_best()
    _finish(recipe, run, model, task, splits, tokenizer, session)


def plan(recipe: FinetuneRecipe) -> str:
    """Steps, pieces, memory and disk the run will take."""
    _, _, splits, model = _set_up(recipe, None)
    loader = _loader(recipe, splits)
    lengths = TaskSource(splits.train[1]).lengths
    return training_plan(
        model,
        examples=len(lengths),
        pieces=int(lengths.sum()),
        batches=loader.batches_per_epoch(),
        train=recipe.train,
        optimizer=recipe.optimizer,
        judged=splits.dev is not None,
    )


def _set_up(recipe: FinetuneRecipe, run: RunDir | None) -> tuple[Tokenizer, Task, Splits, Model]:
    task_recipe, data = recipe.task, recipe.data
    if data.train is None:
        raise RecipeError("data.train is missing: the file of rows to learn from")
    if recipe.model.folder is not None:
        tokenizer = Tokenizer.load(model_folder(recipe.model.folder))
    elif recipe.model.tokenizer is not None:
        tokenizer = Tokenizer.load(recipe.model.tokenizer)
    else:
        raise RecipeError("model.tokenizer is missing: a preset has no vocabulary of its own")
    rows = read_rows(data.train, data, kind=task_recipe.kind)
    task = _task(recipe, task_recipe, rows, place=str(data.train))
    splits = read_splits(task, data, tokenizer, train=rows)
    model = start_model(
        recipe.model,
        task.heads(),
        tokenizer=tokenizer,
        seed=recipe.train.seed,
        max_length=task.max_length,
        keep_head=_remembered(recipe, task_recipe) == list(task.labels),
    )
    if run is not None:
        inputs: list[tuple[str, Path]] = []
        inputs += [("model", weights_file(recipe.model.folder))] if recipe.model.folder else []
        inputs += [("model", recipe.model.tokenizer)] if recipe.model.tokenizer else []
        inputs += [("data", path) for path in (data.train, data.dev, data.test) if path is not None]
        run.environment(seed=recipe.train.seed, inputs=inputs)
    return tokenizer, task, splits, model


def _remembered(recipe: FinetuneRecipe, task: TaskRecipe) -> list[str] | None:
    """Labels of a folder that was already fine-tuned for this kind of task."""
    block = task_block_of(recipe.model.folder) if recipe.model.folder else None
    return list(block["labels"]) if block and block["kind"] == task.kind else None


def _task(recipe: FinetuneRecipe, task_recipe: TaskRecipe, rows: Sequence[Row], *, place: str) -> Task:
    """The data's labels; where the folder knows the same ones in another order, the folder's order holds."""
    task = task_from_rows(task_recipe, rows, place=place)
    remembered = _remembered(recipe, task_recipe)
    if remembered is not None and set(remembered) == set(task.labels):
        return build_task(task_recipe, remembered)
    return task


def _loader(recipe: FinetuneRecipe, splits: Splits) -> Loader:
    return Loader.of(TaskSource(splits.train[1]), prepare, recipe.batch, seed=recipe.train.seed)


def _finish(
    recipe: FinetuneRecipe,
    run: RunDir,
    model: Model,
    task: Task,
    splits: Splits,
    tokenizer: Tokenizer,
    session: Session,
) -> None:
    model.eval()
    labels = list(task.labels)
    save_model(model, run.model, extra={"labels": labels, "fenghuo": {"task": task_block(task)}})
    tokenizer.save(run.model)
    result = {
        "role": "finetuned",
        "task": task.kind,
        "metric": task.metric,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "rows": len(splits.train[0]),
        "steps": session.done,
        **session.result(),
        **splits.figures(
            lambda rows, examples: evaluate_model(model, task, rows, examples, tokenizer), task.metric
        ),
    }
    write_card(run.model, title=f"Fine-tuned: {task.kind}", recipe=recipe, result=result)
    run.finish(result)
