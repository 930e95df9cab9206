"""Packed shards → a pretrained model in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.loader import Cursor, Loader, collate
from fenghuo.corpus.shards import ShardSource, corpus_file, corpus_tokenizer
from fenghuo.models.card import write_card
from fenghuo.models.folder import save_model
from fenghuo.models.start import start_model, weights_file
from fenghuo.net.model import Model
from fenghuo.objectives.objective import Objective, build_objective
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.rundir import RunDir
from fenghuo.training.loop import Terms, to_tensors
from fenghuo.training.parallel import put_together, shard
from fenghuo.training.plan import training_plan
from fenghuo.training.session import Session, iterate_from, make_deterministic
from fenghuo.training.world import World, together

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
    source = ShardSource(recipe.corpus, max_pieces=recipe.max_length - 2)
    heldout = ShardSource(recipe.corpus, max_pieces=recipe.max_length - 2, split="heldout")
    objective = build_objective(recipe.objectives[0].model_dump(), tokenizer.vocabulary)
    model = start_model(recipe.model, objective.heads(), tokenizer=tokenizer, seed=recipe.train.seed)
    inputs = [("corpus", corpus_file(recipe.corpus))]
    inputs += [("model", weights_file(recipe.model.folder))] if recipe.model.folder else []
    run.environment(seed=recipe.train.seed, inputs=inputs)

    if recipe.train.parallel == "fsdp":
        shard(model, model.encoder.layer_modules(), world, methods=("encode",))
    loader = Loader.of(
        source,
        objective.prepare,
        recipe.batch,
        seed=recipe.train.seed,
        rank=world.rank,
        world=world.size,
    )
    total = recipe.train.total_steps(loader.batches_per_epoch())
    session = Session(
        run,
        model,
        learner=ObjectiveLearner(model, objective),
        iterate=iterate_from(loader.iterate, Cursor),
        total=total,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        train=recipe.train,
        label="pretrain",
        world=world,
        describe=lambda cursor: [source.describe(int(index)) for index in loader.examples(Cursor(*cursor))],
    )
    evaluate = partial(heldout_figures, model, objective, heldout, seed=recipe.train.seed)
    every = recipe.train.evaluate_every or max(1, total // 5)
    for step in session:
        if step.number % every == 0 or step.number == total:
            figures = evaluate()
            run.metric(step.number, **{f"heldout/{name}": value for name, value in figures.items()})
            run.log(f"step {step.number}: held-out " + ", ".join(f"{n} {v:.4f}" for n, v in figures.items()))

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
        "steps": total,
        "examples": len(source),
        "train_s": round(session.spent_s, 1),
    }
    write_card(run.model, title="Pretrained encoder", recipe=recipe, result=result)
    run.finish(result)


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
    source = ShardSource(recipe.corpus, max_pieces=recipe.max_length - 2)
    objective = build_objective(recipe.objectives[0].model_dump(), tokenizer.vocabulary)
    model = start_model(recipe.model, objective.heads(), tokenizer=tokenizer, seed=0)
    loader = Loader.of(source, objective.prepare, recipe.batch, seed=0)
    return training_plan(
        model,
        examples=len(source),
        pieces=int(source.lengths.sum()),
        batches=loader.batches_per_epoch(),
        train=recipe.train,
        judged=False,
    )
