"""Packed shards → a pretrained model in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fenghuo.corpus.batch import BatchRecipe
from fenghuo.corpus.index import Index
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.shards import ShardSource, corpus_file, corpus_tokenizer
from fenghuo.corpus.slices import Cutting, Split
from fenghuo.models.card import write_card
from fenghuo.models.folder import save_model
from fenghuo.models.start import start_model, weights_file
from fenghuo.net.config import HeadsConfig
from fenghuo.net.flops import MatrixPeak, training_flops
from fenghuo.net.model import Model
from fenghuo.objectives.objective import Alternatives, build_questions
from fenghuo.pretrain.curriculum import Curriculum, curriculum
from fenghuo.pretrain.cutting import cutting_of
from fenghuo.pretrain.evaluate import HEADS, heldout_figures, pseudo_perplexity
from fenghuo.pretrain.probe import Probe
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.rundir import RunDir
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.course import course_of
from fenghuo.training.loop import HALVES, Terms
from fenghuo.training.parallel import put_together, shard
from fenghuo.training.plan import training_plan
from fenghuo.training.process import prepare_process
from fenghuo.training.session import Session
from fenghuo.training.world import ALONE, World, together

PEAK_S = 0.3
"""For which matrix products are timed before the first step."""
_OVER_ALL_WORDS = ("mlm", "span_boundary", "causal")  # what they ask is compared with every word


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

    def flops(self, batch: Mapping[str, NDArray[Any]]) -> float:
        """Floating point operations that a step on the batch has to do."""
        counts = self.counts(batch)
        squares = float((batch["lengths"].astype(np.float64) ** 2).sum())
        return training_flops(
            self.model.config,
            pieces=len(batch["pieces"]),
            squares=squares / 2 if "causal" in counts else squares,
            asked=sum(counts.get(name, 0.0) for name in _OVER_ALL_WORDS),
        )


def run(recipe: PretrainRecipe, run: RunDir) -> None:
    """Pretrain as the recipe says, in as many processes as torchrun started; a run that was cut off goes on."""
    with together(recipe.train.device) as world:
        _run(recipe, run, world)


def _run(recipe: PretrainRecipe, run: RunDir, world: World) -> None:
    prepare_process()
    tokenizer = corpus_tokenizer(recipe.corpus)
    of_heldout = _cutting(recipe, tokenizer.vocabulary, recipe.max_length, "heldout")
    lengths = sorted({phase.max_length for phase in recipe.phases} or {recipe.max_length})
    cuttings = [of_heldout, *(_cutting(recipe, tokenizer.vocabulary, length) for length in lengths)]
    with world.first_alone():  # who comes later finds no damaged index
        index = Index(recipe.corpus, cuttings)
    index.make(world.rank, world.size, world.gather)
    with world.first_alone():  # the first puts the index together
        heldout = ShardSource.of(recipe.corpus, of_heldout)
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
        max_length=recipe.max_length,
        keep_pretraining=True,
        say=run.log,
    )
    hold(model, questions.heads())
    run.environment(seed=recipe.train.seed, inputs=_inputs(recipe))
    probe = None if recipe.probe is None else Probe(recipe.probe, tokenizer, model.config)

    if recipe.train.parallel == "fsdp":
        shard(model, model.encoder.layer_modules(), world, methods=("encode",))
    course = course_of(
        recipe.train, way.total_steps(recipe.train), began_s=run.began_s, agree=world.broadcast
    )
    learner = QuestionsLearner(model, questions)
    peak = MatrixPeak(
        model.config, device=world.device, dtype=HALVES.get(recipe.train.precision, torch.float32)
    ).measure_for(PEAK_S)
    session = Session(
        run,
        model,
        learner=learner,
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
        least_s=lambda batch: learner.flops(batch) / peak,
    )

    def evaluate(*, last: bool) -> dict[str, float]:
        figures = heldout_figures(model, questions, heldout, seed=recipe.train.seed, world=world)
        if probe is not None:
            figures |= probe.figures(model)
        if last or recipe.pseudo_perplexity == "each":
            figures |= pseudo_perplexity(
                model, questions, tokenizer.vocabulary, heldout, seed=recipe.train.seed, world=world
            )
        return figures

    figures: dict[str, float] | None = None
    for step in session:
        if session.due:
            figures = evaluate(last=session.ended or course.rehearses())
            run.metric(step.number, **{f"heldout/{name}": value for name, value in figures.items()})
            run.log(f"step {step.number}: held-out " + ", ".join(f"{n} {v:.4f}" for n, v in figures.items()))

    if figures is None:  # all steps were taken by a process before this one
        figures = evaluate(last=True)
    put_together(model)
    if not world.is_first:
        return
    metric = f"{questions.names[0]}_accuracy"
    save_model(model, run.model, extra={"fenghuo": {"max_length": recipe.max_length}})
    tokenizer.save(run.model)
    result = {
        "role": "pretrained",
        "task": "pretrain",
        "metric": f"heldout_{metric}",
        "value": figures.get(metric),
        "figures": figures,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": session.done,
        "examples": len(source),
        **session.result(),
    }
    write_card(run.model, title="Pretrained encoder", recipe=recipe, result=result)
    run.finish(result)


def hold(model: Model, asked: HeadsConfig) -> None:
    """Keep heads that no objective asks as they are: under FSDP2 they would get gradients of zero, and decay."""
    of_encoder = set(model.encoder.parameters())
    for name in (*HEADS, "pooler"):
        head: nn.Module | None = getattr(model, name)
        if head is not None and not getattr(asked, "pair" if name == "pooler" else name):
            for weight in set(head.parameters()) - of_encoder:  # the MLM head's table is that of the words
                weight.requires_grad_(False)


def _cutting(
    recipe: PretrainRecipe, vocabulary: Vocabulary, max_length: int, split: Split = "train"
) -> Cutting:
    return cutting_of(
        recipe.objectives, vocabulary, max_length=max_length, split=split, packing=recipe.packing
    )


def _inputs(recipe: PretrainRecipe) -> list[tuple[str, Path]]:
    found = [("corpus", corpus_file(recipe.corpus))]
    if recipe.model.folder:
        found.append(("model", weights_file(recipe.model.folder)))
    if recipe.probe:
        found += [("data", path) for path in recipe.probe.files()]
    return found


def way_of(recipe: PretrainRecipe, vocabulary: Vocabulary, world: World = ALONE) -> Curriculum:
    """The run's phases, with a rank's share of their batches."""

    def loader_of(max_length: int, batch: BatchRecipe) -> tuple[ShardSource, Loader]:
        source = ShardSource.of(recipe.corpus, _cutting(recipe, vocabulary, max_length))
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


def plan(recipe: PretrainRecipe) -> str:
    """Steps, pieces, memory and disk the run will take."""
    tokenizer = corpus_tokenizer(recipe.corpus)
    way = way_of(recipe, tokenizer.vocabulary)
    first = way.phases[0]
    questions = build_questions(recipe.objectives, tokenizer.vocabulary, first.source)
    model = start_model(
        recipe.model,
        questions.heads(),
        tokenizer=tokenizer,
        seed=0,
        max_length=recipe.max_length,
        keep_pretraining=True,
    )
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
    probes = [Probe(recipe.probe, tokenizer, model.config)] if recipe.probe else []
    return "\n".join([told, *way.told(), *(f"probe            {probe}" for probe in probes)])
