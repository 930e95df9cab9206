"""Left to right: what is asked, by whom it is heard, and how much memory it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.objectives.small import Documents, vocabulary
from torch.nn import functional as F

import fenghuo.objectives.causal as causal
from fenghuo.corpus.loader import collate
from fenghuo.models.folder import build
from fenghuo.net.model import Model
from fenghuo.objectives.objective import Alternatives, build_questions
from fenghuo.objectives.recipe import CausalRecipe
from fenghuo.training.loop import to_tensors

TINY = {"layers": 2, "width": 32, "heads": 2, "inner_width": 64}
FAMILIES = {
    "bert": {**TINY, "layer_groups": 2, "embed_width": 32},
    "nezha": {**TINY, "layer_groups": 2, "embed_width": 32},
    "transfo-xl": {
        **TINY,
        "layer_groups": 2,
        "embed_width": 0,
        "cutoffs": (40, 100),
        "same_length": False,
        "memory": 0,
    },
}


def questions() -> Alternatives:
    return build_questions([CausalRecipe()], vocabulary(), Documents(9))


def model_of(family: str) -> Model:
    return build(None, family=family, values=FAMILIES[family], vocab=200, heads=questions().heads(), seed=0)


def batch_of(number: int = 4) -> dict[str, np.ndarray]:
    source = Documents(number)
    return collate([questions().prepare(source[i], np.random.default_rng(i)) for i in range(number)])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_each_next_piece(family: str) -> None:
    model, batch = model_of(family).eval(), to_tensors(batch_of(), torch.device("cpu"))
    terms = questions().terms(model, batch)
    total, right, at = 0.0, 0, 0
    for length in batch["lengths"].tolist():  # one sequence at a time, one place at a time
        pieces = batch["pieces"][at : at + length]
        for place in range(1, length):
            told = {"pieces": pieces[:place], "lengths": torch.tensor([place])}
            logits = model.mlm(model.encode(told, causal=True).last_TD[-1:])
            total += F.cross_entropy(logits, pieces[place : place + 1]).item()
            right += int(logits.argmax() == pieces[place])
        at += length
    assert terms.loss["causal"].item() == pytest.approx(total, rel=1e-5)
    assert terms.seen["causal_accuracy"].item() == right
    assert questions().counts(batch_of())["causal"] == len(batch["pieces"]) - len(batch["lengths"])


@pytest.mark.parametrize("family", ["bert", "transfo-xl"])
def test_rows_at_a_time_give_the_same_gradients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = to_tensors(batch_of(), torch.device("cpu"))
    found = []
    for rows in (10_000, 7):
        monkeypatch.setattr(causal, "_ROWS", rows)
        model = model_of(family).eval()
        questions().terms(model, batch).loss["causal"].backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, msg=name)


def test_nothing_is_kept_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the backward pass holds no (M, V) logits."""
    monkeypatch.setattr(causal, "_ROWS", 8)
    model, batch = model_of("bert"), to_tensors(batch_of(30), torch.device("cpu"))
    encoded = model.encode(batch, causal=True)
    objective = questions().kinds[0].objectives[0]
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        objective.terms(model, batch, encoded)
    assert max(sizes, default=0) <= encoded.last_TD.numel()


def test_it_is_asked_without_a_gradient_too() -> None:
    model, batch = model_of("nezha").eval(), to_tensors(batch_of(), torch.device("cpu"))
    with torch.inference_mode():
        told = questions().terms(model, batch).loss["causal"]
    torch.testing.assert_close(told, questions().terms(model, batch).loss["causal"].detach())


def test_rare_words_are_not_made_for_a_figure_alone() -> None:
    batch = to_tensors(batch_of(), torch.device("cpu"))
    assert not questions().terms(model_of("transfo-xl").train(), batch).seen
