"""Every objective keeps the room's contract."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from tests.objectives.small import Documents, vocabulary

import fenghuo.objectives
from fenghuo.config import build_recipe
from fenghuo.corpus.loader import collate
from fenghuo.models.folder import build
from fenghuo.net.model import Model
from fenghuo.objectives import OBJECTIVES
from fenghuo.objectives.objective import Alternatives, build_questions
from fenghuo.objectives.recipe import AnyObjective, ObjectiveRecipe
from fenghuo.training.loop import to_tensors

TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
CHOICES = {"nsp": 2, "sop": 2}
"""Of those that do not ask for a piece of the vocabulary."""


def recipes() -> dict[str, type[ObjectiveRecipe]]:
    union = get_args(AnyObjective)[0]
    return {kind.model_fields["name"].default: kind for kind in get_args(union) or (union,)}


def asked(name: str) -> Alternatives:
    """The objective, behind the one whose choice it reads."""
    kind = recipes()[name]
    before = [build_recipe(recipes()[kind.after], {"name": kind.after})] if kind.after else []
    return build_questions([*before, build_recipe(kind, {"name": name})], vocabulary(), Documents(60))


def batch_of(questions: Alternatives, seed: int) -> dict[str, np.ndarray]:
    source = Documents(60)
    return collate([questions.prepare(source[i], np.random.default_rng((seed, i))) for i in range(60)])


def model_of(questions: Alternatives) -> Model:
    return build(None, family="bert", values=TINY, vocab=vocabulary().size, heads=questions.heads(), seed=0)


def test_a_recipe_for_each_objective() -> None:
    assert recipes().keys() == OBJECTIVES.keys()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_a_function_of_its_seed(name: str) -> None:
    questions = asked(name)
    one, same, other = batch_of(questions, 1), batch_of(questions, 1), batch_of(questions, 2)
    assert one.keys() == same.keys() == other.keys()
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert name == "causal" or any(not np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_at_the_beginning_it_knows_nothing(name: str) -> None:
    """Loss ≈ log of the number of choices, over as many things as it says it asks."""
    questions = asked(name)
    [objective] = [one for one in questions.kinds[0].objectives if one.name == name]
    assert "arXiv" in objective.citation
    batch = batch_of(questions, 1)
    terms = questions.terms(model_of(questions), to_tensors(batch, torch.device("cpu")))
    counts = questions.counts(batch)
    assert terms.loss.keys() | terms.seen.keys() == counts.keys()
    mean = terms.loss[name].item() / counts[name]
    assert mean == pytest.approx(math.log(CHOICES.get(name, vocabulary().size)), rel=0.1)
    assert 0 <= terms.seen[f"{name}_accuracy"].item() <= counts[f"{name}_accuracy"] == counts[name]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_weight_is_a_factor_of_the_loss_alone(name: str) -> None:
    plain = asked(name)
    kind = recipes()[name]
    before = [build_recipe(recipes()[kind.after], {"name": kind.after})] if kind.after else []
    heavy = build_questions(
        [*before, build_recipe(kind, {"name": name, "weight": 3.0})], vocabulary(), Documents(60)
    )
    batch = batch_of(plain, 1)
    model, tensors = model_of(plain).eval(), to_tensors(batch, torch.device("cpu"))
    one, three = plain.terms(model, tensors), heavy.terms(model, tensors)
    torch.testing.assert_close(three.loss[name], 3 * one.loss[name])
    assert {key: x.item() for key, x in one.seen.items()} == {key: x.item() for key, x in three.seen.items()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_is_its_examples(name: str) -> None:
    """Sums of a batch are those of its parts: nothing depends on who else is in it."""
    questions = asked(name)
    model, source = model_of(questions).eval(), Documents(60)
    prepared = [questions.prepare(source[i], np.random.default_rng((1, i))) for i in range(12)]
    parts = [prepared[:5], prepared[5:]]
    whole = questions.terms(model, to_tensors(collate(prepared), torch.device("cpu")))
    each = [questions.terms(model, to_tensors(collate(part), torch.device("cpu"))) for part in parts]
    torch.testing.assert_close(whole.loss[name], each[0].loss[name] + each[1].loss[name])
    counts = [questions.counts(collate(part))[name] for part in parts]
    assert questions.counts(collate(prepared))[name] == sum(counts)


def test_the_rooms_dict_names_every_objective() -> None:
    found = set()
    for path in Path(fenghuo.objectives.__file__).parent.glob("*.py"):
        if path.stem in ("__init__", "objective"):  # the dict and the contract
            continue
        module = import_module(f"fenghuo.objectives.{path.stem}")
        found |= {
            f"{module.__name__}:{name}"
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "citation")
        }
    assert found == set(OBJECTIVES.values())
