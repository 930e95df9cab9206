"""What a student imitates, against plain loops over the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fenghuo.compress.match import ImitateInside, attention_apart, layer_pairs, soft_cross_entropy
from fenghuo.compress.recipe import MatchRecipe
from fenghuo.errors import RecipeError
from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.initial import build_model
from fenghuo.net.model import Model
from fenghuo.net.projection import Projections
from fenghuo.training.loop import to_tensors


def model(layers: int, width: int, heads: int = 2, seed: int = 0) -> Model:
    config = EncoderConfig(
        vocab=30, layers=layers, width=width, heads=heads, inner_width=16, position="nezha"
    )
    return build_model(config, HeadsConfig(), seed=seed)


def batch(lengths: list[int]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(sum(lengths))
    return {"pieces": draw.integers(0, 30, sum(lengths)), "lengths": np.array(lengths)}


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("uniform", ((1, 3), (2, 6), (3, 9), (4, 12))),
        ("bottom", ((1, 1), (2, 2), (3, 3), (4, 4))),
        ("top", ((1, 9), (2, 10), (3, 11), (4, 12))),
        ([(1, 2), (4, 12)], ((1, 2), (4, 12))),
    ],
)
def test_layer_rules_of_the_paper(rule: object, wanted: object) -> None:
    assert layer_pairs(rule, student=4, teacher=12) == wanted  # type: ignore[arg-type]


@given(st.integers(1, 12), st.integers(0, 12))
def test_uniform_ends_at_the_teachers_last_layer(student: int, more: int) -> None:
    pairs = layer_pairs("uniform", student=student, teacher=student + more)
    assert [mine for mine, _ in pairs] == list(range(1, student + 1))
    theirs = [theirs for _, theirs in pairs]
    assert theirs[-1] == student + more
    assert theirs == sorted(set(theirs))


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"\(5, 1\) is outside the student's 1…4"):
        layer_pairs([(5, 1)], student=4, teacher=12)
    with pytest.raises(RecipeError, match="deeper than its teacher"):
        layer_pairs("uniform", student=4, teacher=3)


def test_the_losses_equal_loops_over_the_formulas() -> None:
    teacher, student = model(4, 12, seed=1), model(2, 8, seed=2)
    projections = Projections(3, 8, 12, seed=0)
    match = MatchRecipe(embeddings=0.5, hidden=2.0, attention=3.0)
    learner = ImitateInside(teacher, student, projections, match)
    given_batch = batch([3, 7, 5])
    student.eval()
    terms = learner.terms(to_tensors(given_batch, torch.device("cpu")))
    counts = learner.counts(given_batch)
    assert counts == {"embeddings": 15.0, "hidden": 15.0, "attention": 9.0 + 49 + 25}

    wanted = dict.fromkeys(("embeddings", "hidden", "attention"), 0.0)
    start = 0
    for length in (3, 7, 5):  # sequence by sequence: no batch, no packing
        alone = {
            "pieces": torch.tensor(given_batch["pieces"][start : start + length]),
            "lengths": torch.tensor([length]),
        }
        start += length
        with torch.no_grad():
            theirs = teacher.encode(alone, states=True, scores=[1, 3])
            mine = student.encode(alone, states=True, scores=[0, 1])
        for number, (s, t, name, weight) in enumerate(
            [(0, 0, "embeddings", 0.5), (1, 2, "hidden", 2.0), (2, 4, "hidden", 2.0)]
        ):
            for piece in range(length):
                projected = projections.maps[number] @ mine.states[s][piece]
                wanted[name] += weight * (projected - theirs.states[t][piece]).square().mean().item()
        for s, t in ((0, 1), (1, 3)):
            apart = (mine.scores[s] - theirs.scores[t]).square().mean(0)
            wanted["attention"] += 3.0 * apart.sum().item()
    for name, value in wanted.items():
        assert float(terms.loss[name].detach()) == pytest.approx(value, rel=1e-4)


def test_the_teacher_gets_no_gradient_and_no_dropout() -> None:
    teacher, student = model(2, 8, seed=1), model(1, 8, seed=2)
    learner = ImitateInside(teacher, student, Projections(2, 8, 8, seed=0), MatchRecipe())
    assert not teacher.training
    terms = learner.terms(to_tensors(batch([4, 6]), torch.device("cpu")))
    torch.stack(list(terms.loss.values())).sum().backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert student.encoder.embed.tables["words"].weight.grad is not None


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    teacher = model(3, 8, seed=1)
    student = model(3, 8, seed=1).eval()
    learner = ImitateInside(teacher, student, Projections(4, 8, 8, seed=0), MatchRecipe())
    terms = learner.terms(to_tensors(batch([9, 2]), torch.device("cpu")))
    assert all(float(value.detach()) < 1e-9 for value in terms.loss.values())


def test_heads_of_another_number_are_compared_by_their_mean() -> None:
    mine, theirs = torch.randn(2, 10), torch.randn(6, 10)
    wanted = (mine.mean(0) - theirs.mean(0)).square().sum()
    torch.testing.assert_close(attention_apart(mine, theirs), wanted)


@given(st.floats(0.5, 8.0), st.integers(2, 5), st.integers(0, 1000))
def test_soft_cross_entropy_is_the_entropy_plus_the_divergence(
    temperature: float, classes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mine, theirs = torch.randn(6, classes, generator=generator), torch.randn(6, classes, generator=generator)
    p = (theirs.double() / temperature).softmax(-1)
    q = (mine.double() / temperature).softmax(-1)
    wanted = -(p * q.log()).sum() * temperature**2
    torch.testing.assert_close(
        soft_cross_entropy(mine, theirs, temperature).double(), wanted, rtol=1e-4, atol=1e-5
    )
    # It is least where the student says what the teacher says.
    assert (
        soft_cross_entropy(theirs, theirs, temperature)
        <= soft_cross_entropy(mine, theirs, temperature) + 1e-4
    )
