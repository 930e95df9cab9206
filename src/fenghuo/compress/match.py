"""What a student is asked to imitate: which layers, and how far off it is.

Source: TinyBERT (Jiao et al. 2020, arXiv 1909.10351), equations 7–10; notes say where its code differs.
Shapes: T pieces, H heads, P valid (query, key) pairs, D width, N asked things, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fenghuo.compress.recipe import MatchRecipe
from fenghuo.errors import RecipeError
from fenghuo.net.model import Model
from fenghuo.net.projection import Projections
from fenghuo.training.loop import Terms

Pairs = tuple[tuple[int, int], ...]
"""(student state, teacher state); state 0 is the embedding output, state m the output of layer m."""


def layer_pairs(layers: str | Sequence[tuple[int, int]], *, student: int, teacher: int) -> Pairs:
    """Which teacher layer each student layer imitates.

    uniform spreads the student's layers evenly over the teacher's, bottom and top take the first and the last ones
    (TinyBERT §4.5); a list says it itself. The embeddings are no layer: they are paired by `match.embeddings`.

    Raises:
        RecipeError: a layer that is not there, or a student deeper than its teacher.
    """
    if not isinstance(layers, str):
        for mine, theirs in layers:
            if not (1 <= mine <= student and 1 <= theirs <= teacher):
                raise RecipeError(
                    f"match.layers: ({mine}, {theirs}) is outside the student's 1…{student} "
                    f"and the teacher's 1…{teacher}"
                )
        return tuple((mine, theirs) for mine, theirs in layers)
    if student > teacher:
        raise RecipeError(
            f"match.layers: a student of {student} layers is deeper than its teacher ({teacher})"
        )
    numbers = range(1, student + 1)
    match layers:
        case "bottom":
            return tuple((m, m) for m in numbers)
        case "top":
            return tuple((m, teacher - student + m) for m in numbers)
        case _:
            return tuple((m, round(m * teacher / student)) for m in numbers)


def paired_states(match: MatchRecipe, *, student: int, teacher: int) -> Pairs:
    """The state pairs that carry a hidden-state loss; (0, 0) first where embeddings are matched."""
    layers = layer_pairs(match.layers, student=student, teacher=teacher) if match.hidden else ()
    return (((0, 0),) if match.embeddings else ()) + layers


class ImitateInside:
    """Learner of the intermediate losses: embeddings, hidden states and raw attention scores.

    The teacher runs in eval mode and without autograd (its released code does neither in one stage or the other).
    Means are over real pieces and real pairs only: padding does not exist here.
    """

    def __init__(self, teacher: Model, student: Model, projections: Projections, match: MatchRecipe) -> None:
        self.teacher, self.student, self.projections, self.match = teacher.eval(), student, projections, match
        depth = {"student": student.config.layers, "teacher": teacher.config.layers}
        self.states = paired_states(match, **depth)
        self.layers = layer_pairs(match.layers, **depth) if match.attention else ()

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Pieces for states, pairs for attention."""
        pieces, pairs = float(len(batch["pieces"])), float((batch["lengths"].astype("float64") ** 2).sum())
        return {"embeddings": pieces, "hidden": pieces, "attention": pairs}

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Sums of squared differences, a mean over width (states) and heads (attention)."""
        with torch.no_grad():
            theirs = self.teacher.encode(
                batch, states=bool(self.states), scores=[t - 1 for _, t in self.layers]
            )
        mine = self.student.encode(batch, states=bool(self.states), scores=[s - 1 for s, _ in self.layers])
        loss: dict[str, Tensor] = {}
        for number, (s, t) in enumerate(self.states):
            name = "hidden" if s else "embeddings"
            weight = self.match.hidden if s else self.match.embeddings
            apart = self.projections(number, mine.states[s]).float() - theirs.states[t].float()
            loss[name] = loss.get(name, apart.new_zeros(())) + weight * apart.square().mean(-1).sum()
        for s, t in self.layers:
            apart = attention_apart(mine.scores[s - 1], theirs.scores[t - 1])
            loss["attention"] = loss.get("attention", apart.new_zeros(())) + self.match.attention * apart
        return Terms(loss)


def attention_apart(mine_HP: Tensor, theirs_HP: Tensor) -> Tensor:
    """Sum over pairs of the squared difference of raw scores, a mean over heads.

    Heads are compared one by one where their numbers agree (equation 7); else the mean over heads is compared.
    """
    if mine_HP.shape[0] != theirs_HP.shape[0]:
        mine_HP, theirs_HP = mine_HP.mean(0, keepdim=True), theirs_HP.mean(0, keepdim=True)
    return (mine_HP.float() - theirs_HP.float()).square().mean(0).sum()


def soft_cross_entropy(mine_NC: Tensor, theirs_NC: Tensor, temperature: float) -> Tensor:
    """Sum over N of the cross-entropy with the teacher's distribution, times temperature² (equation 10).

    The square keeps gradients of one size over temperatures (Hinton et al. 2015, arXiv 1503.02531, §2); the released
    code leaves it out, and divides by the number of classes besides.
    """
    soft_NC = F.softmax(theirs_NC.float() / temperature, dim=-1)
    return -(soft_NC * F.log_softmax(mine_NC.float() / temperature, dim=-1)).sum() * temperature**2
