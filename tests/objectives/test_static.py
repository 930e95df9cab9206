"""Masks drawn once: what a loader with `copies` gives is the classic data, each example so many times."""

from __future__ import annotations

import numpy as np
import pytest
from tests.objectives.small import Documents, vocabulary

from fenghuo.corpus.loader import Loader
from fenghuo.corpus.order import keyed_generator
from fenghuo.corpus.visits import Cursor
from fenghuo.objectives.objective import Alternatives, build_questions
from fenghuo.objectives.recipe import (
    CausalRecipe,
    MlmRecipe,
    NspRecipe,
    ObjectiveRecipe,
    SopRecipe,
    SpanBoundaryRecipe,
)

COPIES, SEED, EXAMPLES = 3, 11, 20


class Source(Documents):
    """With what the loader reads of a source."""

    lengths = np.array([len(Documents(EXAMPLES)[i].pieces) + 2 for i in range(EXAMPLES)], np.int32)
    pieces = int(lengths.sum())


MLM = MlmRecipe(unit="span", rate=0.3)
ASKED: dict[str, list[ObjectiveRecipe]] = {
    "mlm": [MLM, SpanBoundaryRecipe()],
    "nsp": [NspRecipe(), MLM],
    "sop": [MLM, SopRecipe()],
    "alternatives": [MlmRecipe(share=2), SopRecipe(), CausalRecipe(share=1)],
}
Frozen = dict[str, bytes]


def questions(kind: str) -> Alternatives:
    return build_questions(ASKED[kind], vocabulary(), Source(EXAMPLES))


@pytest.fixture(scope="module", params=list(ASKED))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def epochs(kind: str) -> list[list[Frozen]]:
    """What a run sees of each example, epoch by epoch."""
    ask = questions(kind)
    loader = Loader(Source(EXAMPLES), ask.prepare, seed=SEED, rows=1, copies=COPIES, kind_of=ask.kind_of)
    seen: list[list[Frozen]] = []
    for epoch in range(2 * COPIES + 1):
        found: dict[int, Frozen] = {}
        for number in range(loader.batches_per_epoch()):
            [index] = loader.examples(Cursor(epoch, number)).tolist()
            [batch] = loader.batch(Cursor(epoch, number))
            found[index] = {key: value.tobytes() for key, value in batch.items() if key != "lengths"}
        seen.append([found[index] for index in range(EXAMPLES)])
    return seen


def test_epochs_repeat_after_as_many_as_there_are_copies(epochs: list[list[Frozen]]) -> None:
    for epoch in range(COPIES + 1):
        assert epochs[epoch] == epochs[epoch + COPIES]


@pytest.mark.parametrize("kind", ["mlm"], indirect=True)
def test_each_example_has_as_many_masks_as_there_are_copies(epochs: list[list[Frozen]]) -> None:
    masks = [{tuple(epoch[index].values()) for epoch in epochs} for index in range(EXAMPLES)]
    assert max(map(len, masks)) == COPIES
    # A text of some words has few masks, and two copies may be the same one.
    assert all(len(masks[index]) == COPIES for index in np.flatnonzero(Source.lengths > 22))


def test_it_is_what_duplicated_data_would_be(kind: str, epochs: list[list[Frozen]]) -> None:
    """BERT's script writes each text `dupe_factor` times with masks of its own, once for all, and trains on that."""
    source, ask = Source(EXAMPLES), questions(kind)
    written = [
        [ask.prepare(source[index], keyed_generator(SEED, copy, index)) for index in range(EXAMPLES)]
        for copy in range(COPIES)
    ]
    for epoch, found in enumerate(epochs):
        for example, seen in zip(written[epoch % COPIES], found, strict=True):
            assert seen == {key: value.tobytes() for key, value in example.items()}
    if len(ask.kinds) > 1:  # which question is asked is drawn once for all, too
        drawn = {tuple(epoch[index]["kind"] for epoch in epochs[:COPIES]) for index in range(EXAMPLES)}
        assert len(drawn) > 1
