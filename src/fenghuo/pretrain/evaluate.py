"""What a pretrained model makes of held-out text: losses, right answers, pseudo-perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.batch import Packing
from fenghuo.corpus.loader import collate
from fenghuo.corpus.order import permuted
from fenghuo.corpus.shards import ShardSource, corpus_tokenizer
from fenghuo.errors import DataError, ModelError
from fenghuo.models.folder import load_model
from fenghuo.models.start import check_length, model_folder, same_pieces
from fenghuo.net.model import Model
from fenghuo.objectives.draft import frame_text
from fenghuo.objectives.objective import Alternatives, build_questions
from fenghuo.objectives.recipe import MlmRecipe, ObjectiveRecipe
from fenghuo.pretrain.cutting import cutting_of
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import to_tensors
from fenghuo.training.world import ALONE, World

HELDOUT_PIECES = 50_000
"""Pieces of held-out text that are enough to tell curves apart, and cost seconds."""
ASKED_PIECES = 1_000
"""Pieces that pseudo-perplexity is a mean over. Each costs a pass over its example. Their negative log-likelihoods
differ by about 3 nats, so the mean's standard error is about 0.1 nats; for two models it is of the same pieces."""
_BATCH_PIECES = 2048  # of one pass; 8,192 are no faster on a CPU, and need 0.5 GB more at 3 million weights
HEADS = ("mlm", "pair", "span_boundary", "entity")
_PSEUDO = 1  # what a generator is for, beside the order of the examples

T = TypeVar("T")


def evaluate_model(
    model: Model | str | Path,
    corpus: str | Path,
    *,
    max_length: int = 128,
    objectives: Sequence[ObjectiveRecipe] = (MlmRecipe(),),
    packing: Packing = "doc-sentences",
    seed: int = 0,
) -> dict[str, float]:
    """Figures of a model on a corpus's held-out documents, at any length: one trained on 128 pieces can be read at 512.
    Learned positions beyond the longest example of the training were never trained, though.

    The same values ask the same questions of every model, so that their figures can be compared.

    Args:
        model: a model, a run folder of `fenghuo pretrain`, or a model folder.
        corpus: run folder of `fenghuo corpus`; its tokenizer must be the model's.
        max_length: longest example in pieces, special ones counted.
        objectives: what is asked; whole-word masking by default.
        packing: what an example holds.
        seed: decides which examples are taken and what is hidden in them.

    Returns:
        `loss` (nats, weighted), accuracies by name (0 … 1), and, where mlm is asked, `pseudo_perplexity`.

    Raises:
        ModelError: a folder that cannot be read, another tokenizer, a head that is not there, positions that end before
            `max_length`.
        DataError: no corpus, or one without held-out text.
    """
    tokenizer = corpus_tokenizer(Path(corpus))
    if not isinstance(model, Model):
        folder = model_folder(Path(model))
        same_pieces(tokenizer, folder)
        model = load_model(folder)
    check_length(model.config, max_length)
    cutting = cutting_of(
        objectives, tokenizer.vocabulary, max_length=max_length, split="heldout", packing=packing
    )
    source = ShardSource.of(Path(corpus), cutting)
    if not len(source):
        raise DataError(f"{corpus}: no held-out documents; build the corpus with 'heldout' above 0")
    questions = build_questions(objectives, tokenizer.vocabulary, source)
    wanted, has = questions.heads(), model.heads_config
    if lacks := [head for head in HEADS if getattr(wanted, head) and not getattr(has, head)]:
        raise ModelError(
            f"the model has no head {', '.join(lacks)}, which {', '.join(questions.names)} would ask"
        )
    return {
        **heldout_figures(model, questions, source, seed=seed),
        **pseudo_perplexity(model, questions, tokenizer.vocabulary, source, seed=seed),
    }


@torch.inference_mode()
def heldout_figures(
    model: Model, questions: Alternatives, source: ShardSource, *, seed: int, world: World = ALONE
) -> dict[str, float]:
    """Loss and accuracies on held-out text, asked what depends on (seed, example) only; {} without such text.

    `loss` is the sum over the objectives, each with its weight; with several, each stands there by its name too. All
    ranks of `world` must call it: each takes a share of the batches, and all get the figures of the whole.
    """
    if not len(source):
        return {}
    model.eval()
    losses, counts, seen = dict[str, float](), dict[str, float](), dict[str, float]()
    for group, counted in _shared(_groups(questions, source, seed), world):
        batch = collate(
            [questions.prepare(source[int(i)], np.random.default_rng((seed, int(i)))) for i in group]
        )
        terms = questions.terms(model, to_tensors(batch, next(model.parameters()).device))
        if counted:
            _add(counts, questions.counts(batch))
            _add(losses, terms.loss)
            _add(seen, terms.seen)
    losses, counts, seen = (world.all_sum(sums) for sums in (losses, counts, seen))
    means = {name: value / max(1.0, counts[name]) for name, value in {**losses, **seen}.items()}
    shown = {name: value for name, value in means.items() if len(losses) > 1 or name not in losses}
    return {"loss": sum(means[name] for name in sorted(losses)), **shown}


@torch.inference_mode()
def pseudo_perplexity(
    model: Model,
    questions: Alternatives,
    vocabulary: Vocabulary,
    source: ShardSource,
    *,
    seed: int,
    world: World = ALONE,
) -> dict[str, float]:
    """exp of the mean negative log-likelihood of a piece when it alone is hidden (Salazar et al. 2020, arXiv
    1910.14659, equation 3, over a corpus), as `pseudo_perplexity`; {} where mlm is not asked or there is no text.

    The paper hides each piece of each text in turn. Here `ASKED_PIECES` of the held-out text are drawn evenly, which
    estimates the same mean from as many texts as possible. All ranks of `world` must call it.
    """
    if "mlm" not in questions.names or model.mlm is None or not len(source):
        return {}
    model.eval()
    device, sums = next(model.parameters()).device, dict[str, float]()
    for group, counted in _shared(_hidden_pieces(source, seed), world):
        batch = collate([_hide_one(vocabulary, source, index, place) for index, place in group])
        tensors = to_tensors(batch, device)
        encoded = model.encode(tensors)
        nll_M, _ = model.mlm.choice(encoded.last_TD[tensors["asked_at"]], tensors["asked_pieces"])
        if counted:
            _add(sums, {"nll": nll_M.double().sum(), "asked": len(nll_M)})
    sums = world.all_sum(sums)
    return {"pseudo_perplexity": math.exp(min(sums["nll"] / max(1.0, sums["asked"]), 700.0))}


def _add(sums: dict[str, float], values: Mapping[str, float | Tensor]) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + float(value)


def _shared(groups: Sequence[T], world: World) -> Iterator[tuple[T, bool]]:
    """This rank's groups, and whether they count: all ranks make as many passes, since FSDP2 gathers weights in each,
    so that some make one for nothing."""
    for first in range(0, len(groups), world.size):
        place = first + world.rank
        yield groups[place if place < len(groups) else 0], place < len(groups)


def _groups(questions: Alternatives, source: ShardSource, seed: int) -> list[NDArray[np.int64]]:
    """Some of the held-out examples, by length, one kind a batch."""
    share = min(1.0, HELDOUT_PIECES / max(1, source.pieces))
    number = max(1, int(share * len(source)))
    chosen = permuted(np.arange(number), len(source), (seed,))
    chosen = chosen[np.argsort(source.lengths[chosen], kind="stable")]
    kinds = np.array([questions.kind_of(np.random.default_rng((seed, int(i)))) for i in chosen])
    groups: list[NDArray[np.int64]] = []
    for kind in np.unique(kinds):
        same = chosen[kinds == kind]
        groups += np.array_split(same, max(1, int(source.lengths[same].sum()) // _BATCH_PIECES))
    return groups


def _hidden_pieces(source: ShardSource, seed: int) -> list[list[tuple[int, int]]]:
    """(example, piece) pairs, no pair twice, the examples of a batch of about one length.

    A piece of a long example is as likely as one of a short example, so an example is drawn by its length.
    """
    rng = np.random.default_rng((seed, _PSEUDO))
    number = min(ASKED_PIECES, source.pieces)
    drawn = np.sort(rng.choice(source.pieces, number, replace=False, shuffle=False))
    examples, places = source.holding(drawn)
    lengths = source.lengths[examples].astype(np.int64)
    order = np.argsort(lengths, kind="stable")
    return [
        [(int(examples[i]), int(places[i])) for i in part]
        for part in np.array_split(order, max(1, int(lengths.sum()) // _BATCH_PIECES))
    ]


def _hide_one(vocabulary: Vocabulary, source: ShardSource, index: int, place: int) -> dict[str, NDArray[Any]]:
    """The example with one piece hidden; a [SEP] between documents, which its length counts, is not asked for."""
    draft = frame_text(vocabulary, source[index])
    at = np.array([place + 1])
    at = at[~draft.fixed[at]]
    asked = draft.pieces[at]
    draft.pieces[at] = vocabulary.mask
    return {"pieces": draft.pieces, "asked_at": at, "asked_pieces": asked}
