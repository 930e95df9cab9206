"""The span boundary objective against its formula, written out for one piece at a time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives.small import Documents, example, vocabulary
from torch import Tensor

from fenghuo.config import build_recipe
from fenghuo.corpus.loader import collate
from fenghuo.models.folder import build
from fenghuo.objectives.draft import Draft, frame_text
from fenghuo.objectives.objective import Alternatives, build_questions
from fenghuo.objectives.recipe import MlmRecipe, SpanBoundaryRecipe
from fenghuo.objectives.span_boundary import SpanBoundary
from fenghuo.training.loop import to_tensors

VOCABULARY = vocabulary()
TINY = {"layers": 2, "width": 16, "inner_width": 24, "heads": 2, "dropout": 0.0, "attention_dropout": 0.0}


def questions_of(**mlm: Any) -> Alternatives:
    recipes = [
        build_recipe(MlmRecipe, {"name": "mlm", **mlm}),
        build_recipe(SpanBoundaryRecipe, {"name": "span_boundary", "weight": 2.0}),
    ]
    return build_questions(recipes, VOCABULARY, Documents(1))


def asked_of(hidden: list[bool]) -> tuple[Draft, dict[str, np.ndarray]]:
    """What is asked where mlm has hidden these pieces of a text."""
    draft = frame_text(VOCABULARY, example([len(hidden)]))
    draft.hidden[1:-1] = hidden
    draft.arrays["asked_at"] = np.flatnonzero(draft.hidden)
    draft.arrays["asked_pieces"] = draft.pieces[draft.hidden]
    SpanBoundary(vocabulary=VOCABULARY).ask(draft, np.random.default_rng(0))
    return draft, draft.arrays


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_span_is_what_lies_between_two_pieces_that_are_seen(hidden: list[bool]) -> None:
    draft, arrays = asked_of(hidden)
    wanted = []
    for is_hidden, group in itertools.groupby(range(1, len(hidden) + 1), lambda at: hidden[at - 1]):
        run = list(group)
        if is_hidden:
            wanted += [(run[0] - 1, run[-1] + 1, place, at) for place, at in enumerate(run[:20])]
    keys = ("span_left_at", "span_right_at", "span_place")
    found = zip(*(arrays[key].tolist() for key in keys), strict=True)
    assert list(found) == [one[:3] for one in wanted]
    assert arrays["span_pieces"].tolist() == [int(draft.pieces[at]) for *_, at in wanted]
    assert not draft.hidden[arrays["span_left_at"]].any()
    assert not draft.hidden[arrays["span_right_at"]].any()


def test_pieces_after_the_twentieth_are_not_asked() -> None:
    _, arrays = asked_of([False, *[True] * 25, False])
    assert arrays["span_place"].tolist() == list(range(20))
    assert set(arrays["span_right_at"].tolist()) == {27}


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def normalized(x: Tensor, norm: Any) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def by_the_formula(model: Any, batch: dict[str, Tensor], last_TD: Tensor) -> Tensor:
    """Sum of the cross-entropies over every hidden piece: from the flags of what is hidden, not from `ask`."""
    head, words = model.span_boundary, model.encoder.embed.words.weight
    asked = dict(zip(batch["asked_at"].tolist(), batch["asked_pieces"].tolist(), strict=True))
    total = last_TD.new_zeros(())
    for at, piece in asked.items():
        start, end = at, at
        while start - 1 in asked:
            start -= 1
        while end + 1 in asked:
            end += 1
        if at - start >= 20:
            continue
        x = torch.cat([last_TD[start - 1], last_TD[end + 1], head.places.weight[at - start]])
        h = normalized(gelu(head.inner.weight @ x + head.inner.bias), head.inner_norm)
        h = normalized(gelu(head.outer.weight @ h + head.outer.bias), head.outer_norm)
        if head.words.narrow:
            h = h @ model.encoder.embed.project.weight
        logits = words @ h + head.bias
        total = total - (logits[piece] - logits.exp().sum().log())
    return total


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("nezha", {}),
        ("bert", {}),
        ("roberta", {}),
        ("albert", {"embed_width": 8}),
        ("albert_zh", {"embed_width": 8}),
    ],
    ids=["nezha", "bert", "roberta", "albert", "albert_zh"],
)
def test_loss_and_gradients_are_the_formulas(family: str, values: dict[str, int]) -> None:
    questions = questions_of(unit="span", rate=0.4)
    model = build(
        None,
        family=family,
        values={**TINY, "activation": "gelu", **values},
        vocab=VOCABULARY.size,
        heads=questions.heads(),
        seed=0,
    ).double()
    with torch.no_grad():  # so that nothing is 0 or 1 by the initial weights
        for parameter in model.span_boundary.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    source = Documents(6)
    made = [questions.prepare(source[i], np.random.default_rng((2, i))) for i in range(6)]
    batch = to_tensors(collate(made), torch.device("cpu"))
    ours = questions.terms(model, batch).loss["span_boundary"]
    theirs = 2.0 * by_the_formula(model, batch, model.encode(batch).last_TD)
    # The head is double, the cross-entropy float, as in training.
    torch.testing.assert_close(ours, theirs, check_dtype=False, rtol=1e-5, atol=0)
    weights = {
        name: weight
        for name, weight in model.named_parameters()
        if name.startswith(("span_boundary", "encoder.embed", "encoder.feeds.0"))
    }
    some = [weight for name, weight in weights.items() if "positions" not in name or family != "nezha"]
    for mine, other in zip(torch.autograd.grad(ours, some), torch.autograd.grad(theirs, some), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
        assert mine.abs().max() > 0


def test_where_nothing_is_hidden_nothing_is_asked() -> None:
    questions = questions_of(rate=1e-6)
    source = Documents(2)
    made = [questions.prepare(source[i], np.random.default_rng((2, i))) for i in range(2)]
    batch = collate(made)
    assert questions.counts(batch)["span_boundary"] == 0
    model = build(None, family="nezha", values=TINY, vocab=200, heads=questions.heads(), seed=0)
    terms = questions.terms(model, to_tensors(batch, torch.device("cpu")))
    sum(terms.loss.values(), torch.zeros(())).backward()
    assert terms.loss["span_boundary"].item() == 0
    assert terms.seen["mlm_word_accuracy"].item() == 0
