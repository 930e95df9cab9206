"""Packed shards → a pretrained model in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.batch import BatchRecipe
from fenghuo.corpus.loader import Loader, collate
from fenghuo.corpus.shards import ShardSource, corpus_file, corpus_tokenizer
from fenghuo.models.card import write_card
from fenghuo.models.folder import save_model
from fenghuo.models.start import start_model, weights_file
from fenghuo.net.model import Model
from fenghuo.objectives.objective import Objective, build_objective
from fenghuo.pretrain.curriculum import Curriculum, curriculum
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.rundir import RunDir
from fenghuo.training.course import course_of
from fenghuo.training.loop import Terms, to_tensors
from fenghuo.training.parallel import put_together, shard
from fenghuo.training.plan import training_plan
from fenghuo.training.session import Session, make_deterministic
from fenghuo.training.world import ALONE, World, together

HELDOUT_PIECES = 50_000
"""Pieces of held-out text that are enough to tell curves apart, and cost seconds."""


class ObjectiveLearner:
    """One objective as the training loop sees it."""

    def __init__(self, model: Model, objective: Objective) -> None:
        self.model, self.objective = model, objective

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """How many things the batch asks."""
        return self.objective.counts(batch)

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Loss sums and right answers."""
        return self.objective.terms(self.model, batch)


def run(recipe: PretrainRecipe, run: RunDir) -> None:
    """Pretrain as the recipe says, in as many processes as torchrun started; a run that was cut off goes on."""
    with together() as world:
        _run(recipe, run, world)


def _run(recipe: PretrainRecipe, run: RunDir, world: World) -> None:
    make_deterministic()
    tokenizer = corpus_tokenizer(recipe.corpus)
    heldout = ShardSource(recipe.corpus, max_pieces=recipe.max_length - 2, split="heldout")
    objective = build_objective(recipe.objectives[0].model_dump(), tokenizer.vocabulary)
    model = start_model(recipe.model, objective.heads(), tokenizer=tokenizer, seed=recipe.train.seed)
    inputs = [("corpus", corpus_file(recipe.corpus))]
    inputs += [("model", weights_file(recipe.model.folder))] if recipe.model.folder else []
    run.environment(seed=recipe.train.seed, inputs=inputs)

    if recipe.train.parallel == "fsdp":
        shard(model, model.encoder.layer_modules(), world, methods=("encode",))
    way = _curriculum(recipe, objective, world)
    total = way.total_steps(recipe.train)
    course = course_of(recipe.train, total, began_s=run.began_s, agree=world.broadcast)
    session = Session(
        run,
        model,
        learner=ObjectiveLearner(model, objective),
        iterate=way.iterate(course),
        course=course,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        train=recipe.train,
        label="pretrain",
        evaluate_every=recipe.train.evaluate_every,
        cursor=way.start,
        world=world,
        describe=partial(way.describe, course),
    )
    evaluate = partial(heldout_figures, model, objective, heldout, seed=recipe.train.seed)
    figures: dict[str, float] | None = None
    for step in session:
        if session.due:
            figures = evaluate()
            run.metric(step.number, **{f"heldout/{name}": value for name, value in figures.items()})
            run.log(f"step {step.number}: held-out " + ", ".join(f"{n} {v:.4f}" for n, v in figures.items()))

    if figures is None:  # all steps were taken by a process before this one
        figures = evaluate()
    put_together(model)
    if not world.is_first:
        return
    save_model(model, run.model, extra={"fenghuo": {"max_length": recipe.max_length}})
    tokenizer.save(run.model)
    result = {
        "role": "pretrained",
        "task": "pretrain",
        "metric": "heldout_mlm_accuracy",
        "value": figures.get("mlm_accuracy"),
        "figures": figures,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": session.done,
        "examples": len(way.phases[-1].loader.source),
        **session.result(),
    }
    write_card(run.model, title="Pretrained encoder", recipe=recipe, result=result)
    run.finish(result)


def _curriculum(recipe: PretrainRecipe, objective: Objective, world: World = ALONE) -> Curriculum:
    def loader_of(max_length: int, batch: BatchRecipe) -> Loader:
        source = ShardSource(recipe.corpus, max_pieces=max_length - 2)
        return Loader.of(
            source, objective.prepare, batch, seed=recipe.train.seed, rank=world.rank, world=world.size
        )

    return curriculum(recipe, loader_of)


@torch.inference_mode()
def heldout_figures(
    model: Model, objective: Objective, source: ShardSource, *, seed: int
) -> dict[str, float]:
    """Loss and accuracy on held-out text, with masks that depend on (seed, example) only; {} without such text."""
    if not len(source):
        return {}
    model.eval()
    share = min(1.0, HELDOUT_PIECES / max(1, int(source.lengths.sum())))
    number = max(1, int(share * len(source)))
    chosen = np.random.default_rng(seed).permutation(len(source))[:number]
    chosen = chosen[np.argsort(source.lengths[chosen], kind="stable")]
    learner = ObjectiveLearner(model, objective)
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for group in np.array_split(chosen, max(1, int(source.lengths[chosen].sum()) // 8192)):
        batch = collate(
            [objective.prepare(source[int(i)], np.random.default_rng((seed, int(i)))) for i in group]
        )
        terms = learner.terms(to_tensors(batch, next(model.parameters()).device))
        for name, count in learner.counts(batch).items():
            counts[name] = counts.get(name, 0.0) + count
        for name, value in {**terms.loss, **terms.seen}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    means = {name: value / max(1.0, counts[name]) for name, value in sums.items()}
    return {("loss" if name == "mlm" else name): value for name, value in means.items()}


def plan(recipe: PretrainRecipe) -> str:
    """Steps, pieces, memory and disk the run will take."""
    tokenizer = corpus_tokenizer(recipe.corpus)
    objective = build_objective(recipe.objectives[0].model_dump(), tokenizer.vocabulary)
    model = start_model(recipe.model, objective.heads(), tokenizer=tokenizer, seed=0)
    way = _curriculum(recipe, objective)
    first = way.phases[0]
    told = training_plan(
        model,
        examples=len(first.loader.source),
        pieces=int(first.loader.source.lengths.sum()),
        batches=first.loader.batches_per_epoch() // first.parts,
        train=recipe.train,
        optimizer=recipe.optimizer,
        steps=way.total_steps(recipe.train),
        judged=False,
    )
    return "\n".join([told, *way.told()])
