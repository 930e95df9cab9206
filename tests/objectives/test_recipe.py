"""Which objectives go together, and what of each example is asked."""

from __future__ import annotations

import numpy as np
import pytest
from tests.objectives.small import Documents, vocabulary

from fenghuo.config import build_recipe
from fenghuo.corpus.batch import BatchRecipe
from fenghuo.corpus.loader import Loader
from fenghuo.corpus.visits import Cursor
from fenghuo.errors import RecipeError
from fenghuo.objectives.objective import build_questions
from fenghuo.pretrain.recipe import PretrainRecipe


def objectives(*values: dict[str, object], **more: object) -> PretrainRecipe:
    required = {"corpus": "runs/corpus", "model": "nezha-base", "train": {"steps": 1}}
    return build_recipe(PretrainRecipe, {**required, "objectives": list(values), **more})


MLM, SOP, NSP, CAUSAL = ({"name": name} for name in ("mlm", "sop", "nsp", "causal"))


def sets_of(recipe: PretrainRecipe) -> list[list[str]]:
    questions = build_questions(recipe.objectives, vocabulary(), Documents(9))
    return [[one.name for one in kind.objectives] for kind in questions.kinds]


def test_objectives_without_a_share_are_asked_together() -> None:
    assert sets_of(objectives(MLM, SOP)) == [["mlm", "sop"]]
    assert sets_of(objectives(NSP, MLM)) == [["nsp", "mlm"]]


def test_shares_make_alternatives_and_the_others_go_with_each() -> None:
    words, pieces = MLM | {"share": 1}, MLM | {"unit": "piece", "share": 3}
    assert sets_of(objectives(words, SOP, pieces)) == [["mlm", "sop"], ["sop", "mlm"]]
    assert sets_of(objectives(MLM | {"share": 2}, SOP, CAUSAL | {"share": 1})) == [["mlm", "sop"], ["causal"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([MLM, CAUSAL], "'causal' and 'mlm' cannot be asked of the same example: give each a share"),
        ([MLM, MLM], "'mlm' is asked twice"),
        ([CAUSAL | {"share": 1}, MLM], "'mlm' is never asked"),
        ([MLM, NSP, SOP], "nsp and sop in one run would teach one pair head two meanings"),
        ([NSP | {"share": 1}, SOP | {"share": 1}], "nsp and sop in one run"),
        (
            [MLM, SOP | {"rate": 0.2}],
            r"unknown key 'objectives\[1\]\.rate' \(given 0\.2\)\. It is a key of mlm",
        ),
        (
            [MLM | {"ratee": 0.2}],
            r"unknown key 'objectives\[0\]\.ratee' \(given 0\.2\)\. Did you mean 'rate'",
        ),
        ([{"name": "slm"}], r"objectives\[0\]\.name: given 'slm'; allowed: 'mlm', .* Did you mean 'mlm'"),
        ([{"rate": 0.2}], r"missing key 'objectives\[0\]\.name'\n  allowed: 'mlm' \| "),
        ([], "objectives: given .*at least 1"),
    ],
)
def test_what_does_not_go_together(given: list[dict[str, object]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        objectives(*given)


def test_pairs_are_of_one_document() -> None:
    with pytest.raises(RecipeError, match=r"objectives\[1\]: 'sop' needs 'packing: doc-sentences'"):
        objectives(MLM, SOP, packing="full-sentences")


def test_alternatives_are_drawn_by_their_shares_and_never_share_a_batch() -> None:
    recipe = objectives(MLM | {"share": 3}, SOP, CAUSAL | {"share": 1})
    source = Sized(800)
    questions = build_questions(recipe.objectives, vocabulary(), source)
    loader = Loader.of(source, questions.prepare, BatchRecipe(pieces=600), seed=1, kind_of=questions.kind_of)
    kinds: list[int] = []
    for number in range(loader.batches_per_epoch()):
        batches = loader.batch(Cursor(0, number))
        for batch in batches:
            assert len(set(batch["kind"].tolist())) == 1
            asked = {"causal"} if batch["kind"][0] else {"mlm", "sop"}
            assert {name for name in questions.counts(batch) if "_" not in name} == asked
            kinds += batch["kind"].tolist()
    assert len(kinds) == len(source)
    assert abs(np.mean(kinds) - 1 / 4) < 5 * (1 / 4 * 3 / 4 / len(kinds)) ** 0.5


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_ask_the_same(world: int) -> None:
    recipe = objectives(MLM | {"share": 1}, SOP, CAUSAL | {"share": 1})
    source = Sized(120)
    questions = build_questions(recipe.objectives, vocabulary(), source)

    def asked(rank: int, world: int) -> dict[str, list[list[int]]]:
        loader = Loader(
            source,
            questions.prepare,
            seed=3,
            pieces=300,
            micro_pieces=120,
            rank=rank,
            world=world,
            kind_of=questions.kind_of,
            copies=2,
        )
        every = [loader.batch(Cursor(5, number)) for number in range(loader.batches_per_epoch())]
        found: dict[str, list[list[int]]] = {}
        for number, batches in enumerate(every):
            for batch in batches:
                ends = np.cumsum(batch["lengths"])[:-1]
                found.setdefault(str(number), []).extend(
                    text.tolist() for text in np.split(batch["pieces"], ends)
                )
        return found

    alone = asked(0, 1)
    parts = [asked(rank, world) for rank in range(world)]
    for number, texts in alone.items():
        assert sorted(texts) == sorted(text for part in parts for text in part.get(number, []))


class Sized(Documents):
    """With lengths, as the loader wants them."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.lengths = np.array([len(self[i].pieces) for i in range(number)], np.int32)
        self.pieces = int(self.lengths.sum())
