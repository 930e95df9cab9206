"""The contract of an objective, and the objectives of a run together."""

# Shapes: T flat pieces, S sequences.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fenghuo.corpus.shards import Example
from fenghuo.net.encoder import Encoded
from fenghuo.net.model import HeadsConfig, Model
from fenghuo.objectives import OBJECTIVES
from fenghuo.objectives.draft import Arrays, frame_text
from fenghuo.objectives.draft import Draft as Draft
from fenghuo.objectives.recipe import ObjectiveRecipe, alternatives
from fenghuo.text.tokenizer import Vocabulary
from fenghuo.training.loop import Terms


class Objective(Protocol):
    """One question asked of an encoder, built from the values of its recipe and a vocabulary."""

    name: ClassVar[str]
    """Also its key in `counts` and in `Terms.loss`; the share of right answers is `<name>_accuracy`."""
    citation: ClassVar[str]
    weight: float

    def heads(self) -> HeadsConfig:
        """The heads this question needs."""
        ...

    def ask(self, draft: Draft, rng: np.random.Generator) -> None:
        """Data side: change the draft in place, and say in its arrays what is asked. No model, no torch."""
        ...

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """How many things a batch asks, by the names of `terms`."""
        ...

    def terms(self, model: Model, batch: Mapping[str, Tensor], encoded: Encoded) -> Terms:
        """Loss sums (weighted) and right answers over what the batch asks."""
        ...


@runtime_checkable
class Framing(Protocol):
    """An objective that makes a pair of the text."""

    def frame(self, example: Example, rng: np.random.Generator) -> Draft:
        """The example with its special pieces, and in the draft's arrays what is asked of the pair."""
        ...


class Source(Protocol):
    """Examples that an objective may take besides the one it is asked about."""

    @property
    def documents(self) -> int:
        """How many it has."""
        ...

    @property
    def max_pieces(self) -> int:
        """Of a slice, special pieces not counted."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class Questions:
    """Objectives that are asked of the same example: it is framed once, and encoded once.

    Args:
        objectives: each changes the draft in this order; one of them at most frames it.
        causal: pieces hear themselves and what stands before them only.
    """

    def __init__(
        self, objectives: Sequence[Objective], vocabulary: Vocabulary, *, causal: bool = False
    ) -> None:
        self.objectives, self.vocabulary, self.causal = tuple(objectives), vocabulary, causal
        self.framing = next((one for one in objectives if isinstance(one, Framing)), None)

    def prepare(self, example: Example, rng: np.random.Generator) -> Arrays:
        """One slice of the corpus in, one framed and asked example out."""
        framing = self.framing
        draft = framing.frame(example, rng) if framing else frame_text(self.vocabulary, example)
        for objective in self.objectives:
            objective.ask(draft, rng)
        segments = {} if self.framing is None else {"segments": draft.segments}
        return {"pieces": draft.pieces, **segments, **draft.arrays}

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """How many things a batch asks."""
        return {name: n for objective in self.objectives for name, n in objective.counts(batch).items()}

    def terms(self, model: Model, batch: Mapping[str, Tensor]) -> Terms:
        """Loss sums and right answers of all its objectives."""
        encoded = model.encode(batch, causal=self.causal)
        every = [objective.terms(model, batch, encoded) for objective in self.objectives]
        return Terms(
            {name: value for terms in every for name, value in terms.loss.items()},
            {name: value for terms in every for name, value in terms.seen.items()},
        )


class Alternatives:
    """All that a run asks: of each example one of several `Questions`, drawn by their shares.

    A batch holds examples of one kind only (`kind_of` is for the loader, which sees to that), and carries the kind's
    number where there are several.
    """

    def __init__(self, kinds: Sequence[Questions], shares: Sequence[float]) -> None:
        self.kinds = tuple(kinds)
        self._ends = np.cumsum(shares) / np.sum(shares)

    @property
    def names(self) -> list[str]:
        """Of its objectives, the first of the recipe first."""
        return list(dict.fromkeys(one.name for kind in self.kinds for one in kind.objectives))

    def heads(self) -> HeadsConfig:
        """The heads that any of its objectives needs."""
        every = [one.heads() for kind in self.kinds for one in kind.objectives]
        flags = [f.name for f in fields(HeadsConfig) if f.type in (bool, "bool")]
        wanted: dict[str, Any] = {name: any(getattr(heads, name) for heads in every) for name in flags}
        return HeadsConfig(**wanted)

    def kind_of(self, rng: np.random.Generator) -> int:
        """Which of the kinds `prepare` makes of an example whose generator this is; it takes the first number."""
        if len(self.kinds) == 1:
            return 0
        return int(np.searchsorted(self._ends, rng.random(), side="right"))

    def prepare(self, example: Example, rng: np.random.Generator) -> Arrays:
        """One slice of the corpus in, one framed and asked example out. No model, no torch."""
        kind = self.kind_of(rng)
        arrays = self.kinds[kind].prepare(example, rng)
        return arrays if len(self.kinds) == 1 else {**arrays, "kind": np.array(kind)}

    def counts(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """How many things a batch asks."""
        return self._kind(batch).counts(batch)

    def terms(self, model: Model, batch: Mapping[str, Tensor]) -> Terms:
        """Loss sums (weighted) and right answers over what the batch asks."""
        return self._kind(batch).terms(model, batch)

    def _kind(self, batch: Mapping[str, Any]) -> Questions:
        return self.kinds[int(batch["kind"][0])] if "kind" in batch else self.kinds[0]


def build_questions(
    recipes: Sequence[ObjectiveRecipe], vocabulary: Vocabulary, source: Source
) -> Alternatives:
    """What the recipe's objectives ask together.

    Args:
        source: the examples, for objectives that take others besides the one they are asked about.

    Raises:
        ValueError: objectives that cannot go together (the recipe has told so before).
        DataError: a source in which an objective finds too little.
    """
    found = alternatives(recipes)
    kinds = [
        Questions(
            [build_objective(one, vocabulary, source) for one in each.objectives],
            vocabulary,
            causal=any(one.alone for one in each.objectives),
        )
        for each in found
    ]
    return Alternatives(kinds, [each.share for each in found])


def build_objective(recipe: ObjectiveRecipe, vocabulary: Vocabulary, source: Source) -> Objective:
    """The objective that `recipe.name` names, with the recipe's other values as its settings."""
    home, _, name = OBJECTIVES[recipe.name].partition(":")
    settings: dict[str, Any] = recipe.model_dump(exclude={"name", "share"})
    if recipe.draws:
        settings["source"] = source
    objective: Objective = getattr(import_module(home), name)(vocabulary=vocabulary, **settings)
    return objective
