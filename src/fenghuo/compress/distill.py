"""A teacher and a smaller student → a student that answers like the teacher (TinyBERT, arXiv 1909.10351).

general: the pretrained teacher's inside is imitated on raw text.
task: first the fine-tuned teacher's inside, then its answers, on rows and their augmentations.
"""

from __future__ import annotations

from fenghuo.compress.distill_general import distill_general, general_source, general_tokenizer
from fenghuo.compress.distill_task import distill_task, task_data
from fenghuo.compress.recipe import DistillRecipe
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.visits import Source
from fenghuo.models.start import start_model
from fenghuo.net.model import HeadsConfig
from fenghuo.rundir import RunDir
from fenghuo.tasks.task import TaskSource, prepare
from fenghuo.training.plan import training_plan
from fenghuo.training.process import prepare_process


def run(recipe: DistillRecipe, run: RunDir) -> None:
    """Distill as the recipe says; a run that was cut off goes on."""
    prepare_process()
    (distill_general if recipe.stage == "general" else distill_task)(recipe, run)


def plan(recipe: DistillRecipe) -> str:
    """Steps, pieces, memory and disk the run will take (the last phase's, for the task stage)."""
    if recipe.stage == "general":
        source: Source = general_source(recipe)
        student = start_model(
            recipe.student,
            HeadsConfig(),
            tokenizer=general_tokenizer(recipe),
            seed=0,
            max_length=recipe.max_length,
        )
        judged = False
    else:
        tokenizer, task, splits = task_data(recipe)
        source = TaskSource(splits.train[1])
        student = start_model(
            recipe.student, task.heads(), tokenizer=tokenizer, seed=0, max_length=task.max_length
        )
        judged = splits.dev is not None
    batches = Loader.of(source, prepare, recipe.batch, seed=0).batches_per_epoch()
    lengths = source.lengths
    return training_plan(
        student,
        examples=len(lengths),
        pieces=int(lengths.sum()),
        batches=batches,
        train=recipe.train,
        optimizer=recipe.optimizer,
        judged=judged,
    )
