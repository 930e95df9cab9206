"""Packed shards → a pretrained model in a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.batch import BatchRecipe
from fenghuo.corpus.loader import Loader, collate
from fenghuo.corpus.shards import ShardSource, corpus_file, corpus_tokenizer
from fenghuo.corpus.slices import Split
from fenghuo.models.card import write_card
from fenghuo.models.folder import save_model
from fenghuo.models.start import start_model, weights_file
from fenghuo.net.model import Model
from fenghuo.objectives.objective import Alternatives, build_questions
from fenghuo.pretrain.curriculum import Curriculum, curriculum
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.rundir import RunDir
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.course import course_of
from fenghuo.training.loop import Arrays, Terms, to_tensors
from fenghuo.training.parallel import put_together, shard
from fenghuo.training.plan import training_plan
from fenghuo.training.session import Session, make_deterministic
from fenghuo.training.world import ALONE, World, together

HELDOUT_PIECES = 50_000
"""Pieces of held-out text that are enough to tell curves apart, and cost seconds."""


class QuestionsLearner:
    """A run's objectives as the training loop sees them."""

    def __init__(self, model: Model, questions: Alternatives) -> None:
        self.model, self.questions = model, questions

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """How many things the batch asks."""
        return self.questions.counts(batch)

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Loss sums and right answers."""
        return self.questions.terms(self.model, batch)


def run(recipe: PretrainRecipe, run: RunDir) -> None:
    """Pretrain as the recipe says, in as many processes as torchrun started; a run that was cut off goes on."""
    with together() as world:
        _run(recipe, run, world)


def _run(recipe: PretrainRecipe, run: RunDir, world: World) -> None:
    make_deterministic()
    tokenizer = corpus_tokenizer(recipe.corpus)
    with world.first_alone():  # who comes later finds shards that are checked, and their index
        heldout = source_of(recipe, tokenizer.vocabulary, recipe.max_length, "heldout")
        way = way_of(recipe, tokenizer.vocabulary, world)
    source = way.phases[-1].source
    # Where an objective takes other examples, those of held-out text come from there too.
    partners = heldout if heldout.documents > 1 else source
    questions = build_questions(recipe.objectives, tokenizer.vocabulary, partners)
    model = start_model(
        recipe.model,
        questions.heads(),
        tokenizer=tokenizer,
        seed=recipe.train.seed,
        keep_pretraining=True,
        say=run.log,
    )
    inputs = [("corpus", corpus_file(recipe.corpus))]
    inputs += [("model", weights_file(recipe.model.folder))] if recipe.model.folder else []
    run.environment(seed=recipe.train.seed, inputs=inputs)

    if recipe.train.parallel == "fsdp":
        shard(model, model.encoder.layer_modules(), world, methods=("encode",))
    course = course_of(
        recipe.train, way.total_steps(recipe.train), began_s=run.began_s, agree=world.broadcast
    )
    session = Session(
        run,
        model,
        learner=QuestionsLearner(model, questions),
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
    evaluate = partial(heldout_figures, model, questions, heldout, seed=recipe.train.seed)
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
    accuracy = f"{questions.names[0]}_accuracy"
    save_model(model, run.model, extra={"fenghuo": {"max_length": recipe.max_length}})
    tokenizer.save(run.model)
    result = {
        "role": "pretrained",
        "task": "pretrain",
        "metric": f"heldout_{accuracy}",
        "value": figures.get(accuracy),
        "figures": figures,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": session.done,
        "examples": len(source),
        **session.result(),
    }
    write_card(run.model, title="Pretrained encoder", recipe=recipe, result=result)
    run.finish(result)


def source_of(
    recipe: PretrainRecipe, vocabulary: Vocabulary, max_length: int, split: Split = "train"
) -> ShardSource:
    """The corpus's slices, with room for the special pieces around them."""
    pair = any(objective.frames for objective in recipe.objectives)
    room = max_length - vocabulary.specials(pair=pair)
    return ShardSource(recipe.corpus, max_pieces=room, split=split, packing=recipe.packing)


def way_of(recipe: PretrainRecipe, vocabulary: Vocabulary, world: World = ALONE) -> Curriculum:
    """The run's phases, with a rank's share of their batches."""

    def loader_of(max_length: int, batch: BatchRecipe) -> tuple[ShardSource, Loader]:
        source = source_of(recipe, vocabulary, max_length)
        questions = build_questions(recipe.objectives, vocabulary, source)
        loader = Loader.of(
            source,
            questions.prepare,
            batch,
            seed=recipe.train.seed,
            rank=world.rank,
            world=world.size,
            kind_of=questions.kind_of if len(questions.kinds) > 1 else None,
            copies=recipe.mask_copies,
        )
        return source, loader

    return curriculum(recipe, loader_of)


@torch.inference_mode()
def heldout_figures(
    model: Model, questions: Alternatives, source: ShardSource, *, seed: int
) -> dict[str, float]:
    """Loss and accuracy on held-out text, asked what depends on (seed, example) only; {} without such text.

    `loss` is the sum over the objectives, each with its weight; with several, each stands there by its name too.
    """
    if not len(source):
        return {}
    model.eval()
    learner = QuestionsLearner(model, questions)
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    losses: set[str] = set()
    for batch in _heldout_batches(questions, source, seed):
        terms = learner.terms(to_tensors(batch, next(model.parameters()).device))
        losses |= terms.loss.keys()
        for name, count in learner.counts(batch).items():
            counts[name] = counts.get(name, 0.0) + count
        for name, value in {**terms.loss, **terms.seen}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    means = {name: value / max(1.0, counts[name]) for name, value in sums.items()}
    shown = {name: value for name, value in means.items() if len(losses) > 1 or name not in losses}
    return {"loss": sum(means[name] for name in sorted(losses)), **shown}


def _heldout_batches(questions: Alternatives, source: ShardSource, seed: int) -> Iterator[Arrays]:
    """Some of the held-out examples, by length, one kind a batch."""
    share = min(1.0, HELDOUT_PIECES / max(1, source.pieces))
    number = max(1, int(share * len(source)))
    chosen = np.random.default_rng(seed).permutation(len(source))[:number]
    chosen = chosen[np.argsort(source.lengths[chosen], kind="stable")]
    kinds = np.array([questions.kind_of(np.random.default_rng((seed, int(i)))) for i in chosen])
    for kind in np.unique(kinds):
        same = chosen[kinds == kind]
        for group in np.array_split(same, max(1, int(source.lengths[same].sum()) // 8192)):
            yield collate(
                [questions.prepare(source[int(i)], np.random.default_rng((seed, int(i)))) for i in group]
            )


def plan(recipe: PretrainRecipe) -> str:
    """Steps, pieces, memory and disk the run will take."""
    tokenizer = corpus_tokenizer(recipe.corpus)
    way = way_of(recipe, tokenizer.vocabulary)
    first = way.phases[0]
    questions = build_questions(recipe.objectives, tokenizer.vocabulary, first.source)
    model = start_model(recipe.model, questions.heads(), tokenizer=tokenizer, seed=0, keep_pretraining=True)
    told = training_plan(
        model,
        examples=len(first.source),
        pieces=first.source.pieces,
        batches=first.loader.batches_per_epoch() // first.parts,
        train=recipe.train,
        optimizer=recipe.optimizer,
        steps=way.total_steps(recipe.train),
        judged=False,
    )
    return "\n".join([told, *way.told()])
