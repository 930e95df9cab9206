"""General distillation: a pretrained teacher's inside, imitated on raw text (TinyBERT, arXiv 1909.10351, §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fenghuo.compress.imitation import inside, session_of
from fenghuo.compress.recipe import DistillRecipe
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.shards import Example, ShardSource, corpus_file, corpus_tokenizer
from fenghuo.errors import RecipeError
from fenghuo.models.card import write_card
from fenghuo.models.folder import load_model, save_model
from fenghuo.models.start import check_length, model_folder, same_pieces, start_model, weights_file
from fenghuo.net.model import HeadsConfig
from fenghuo.rundir import RunDir
from fenghuo.text.tokenizer import Tokenizer, Vocabulary, enclose
from fenghuo.training.world import alone


def distill_general(recipe: DistillRecipe, run: RunDir) -> None:
    """Train the student on a corpus into `run`.

    Raises:
        RecipeError: the recipe names no corpus.
        ModelError: corpus, teacher and student do not share one tokenizer.
    """
    tokenizer = general_tokenizer(recipe)
    teacher = load_model(model_folder(recipe.teacher)).to(alone(recipe.train.device).device)
    source = general_source(recipe)
    student = start_model(
        recipe.student,
        HeadsConfig(),
        tokenizer=tokenizer,
        seed=recipe.train.seed,
        max_length=recipe.max_length,
    )
    check_length(teacher.config, recipe.max_length)
    assert recipe.corpus is not None
    starts = [("student", weights_file(recipe.student.folder))] if recipe.student.folder else []
    run.environment(
        seed=recipe.train.seed,
        inputs=[("teacher", weights_file(recipe.teacher)), *starts, ("corpus", corpus_file(recipe.corpus))],
    )
    loader = Loader.of(source, Frame(tokenizer.vocabulary), recipe.batch, seed=recipe.train.seed)
    pair, learner = inside(recipe, teacher, student)
    session = session_of(recipe, run, pair, learner, loader, label="distill (general)")
    for _ in session:
        pass  # the session logs and saves; there is no dev set to stop by
    student.eval()
    save_model(student, run.model, extra={"fenghuo": {"max_length": recipe.max_length}})
    tokenizer.save(run.model)
    last = run.metrics()[-1]
    result = {
        "role": "pretrained",
        "task": "distill-general",
        "metric": "train_loss",
        "value": last.get("train/loss"),
        "parameters": sum(weight.numel() for weight in student.parameters()),
        "steps": session.done,
        **session.result(),
    }
    run.log(f"{run.model}: a student of {result['parameters']:,} parameters, loss {result['value']:.4f}")
    write_card(run.model, title="General student", recipe=recipe, result=result)
    run.finish(result)


def general_tokenizer(recipe: DistillRecipe) -> Tokenizer:
    """The corpus's, which must be the teacher's too: states are compared piece by piece.

    Raises:
        RecipeError: the recipe names no corpus.
        ModelError: they are not the same.
    """
    if recipe.corpus is None:
        raise RecipeError(
            "corpus is missing: general distillation reads raw text (a run of `fenghuo corpus`)"
        )
    tokenizer = corpus_tokenizer(recipe.corpus)
    same_pieces(tokenizer, model_folder(recipe.teacher))
    return tokenizer


def general_source(recipe: DistillRecipe) -> ShardSource:
    """The corpus's slices, with room for the special pieces."""
    assert recipe.corpus is not None
    return ShardSource(recipe.corpus, max_pieces=recipe.max_length - 2)


@dataclass(frozen=True)
class Frame:
    """Loader's data side of general distillation: `[CLS] slice [SEP]`, nothing hidden."""

    vocabulary: Vocabulary

    def __call__(self, example: Example, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"pieces": enclose(self.vocabulary, example.pieces)}
