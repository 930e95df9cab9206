"""Held-out figures: right by brute force, the same in any number of ranks, and told on the way."""

from __future__ import annotations

import json
import math
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from fenghuo.config import build_recipe
from fenghuo.corpus.shards import ShardSource, corpus_tokenizer
from fenghuo.corpus.slices import Slices
from fenghuo.errors import ModelError
from fenghuo.models.folder import build, save_model
from fenghuo.net.config import HeadsConfig
from fenghuo.net.model import Model
from fenghuo.objectives.draft import frame_text
from fenghuo.objectives.objective import build_questions
from fenghuo.objectives.recipe import CausalRecipe, MlmRecipe, NspRecipe, SpanBoundaryRecipe
from fenghuo.pretrain import evaluate
from fenghuo.pretrain.evaluate import evaluate_model, heldout_figures, pseudo_perplexity
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import run
from fenghuo.rundir import RunDir
from fenghuo.training.session import Session
from fenghuo.training.world import World, add_up

TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
STILL = {**TINY, "dropout": 0.0, "attention_dropout": 0.0}


def model_of(corpus: Path, family: str = "bert", **values: Any) -> Model:
    size = corpus_tokenizer(corpus).vocabulary.size
    heads = HeadsConfig(pooler=True, mlm=True, pair=True)
    model = build(None, family=family, values={**TINY, **values}, vocab=size, heads=heads, seed=7)
    with torch.no_grad():  # far from even answers
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    return model


def recipe_of(corpus: Path, **train: Any) -> PretrainRecipe:
    return build_recipe(
        PretrainRecipe,
        {
            "corpus": str(corpus),
            "model": {"preset": "nezha-4l-312", "values": STILL},
            "max_length": 32,
            "batch": {"rows": 8},
            "train": {"seed": 3, "log_every": 1, **train},
        },
    )


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def keep_first(source: ShardSource, number: int) -> None:
    """Forget all other slices of a corpus of one shard."""
    few = source._slices
    lengths, pieces = few.lengths[:number], int(few.lengths[:number].sum())
    source._slices = replace(
        few, lengths=lengths, first=np.array([0, number]), before=np.array([0, pieces], np.int64)
    )
    source.lengths, source.pieces = lengths, pieces


@pytest.mark.parametrize("packing", ["doc-sentences", "full-sentences"])
def test_pseudo_perplexity_is_that_of_each_piece_hidden_alone(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, packing: Any
) -> None:
    monkeypatch.setattr(evaluate, "ASKED_PIECES", 10**6)  # all there are
    words = corpus_tokenizer(corpus).vocabulary
    source = ShardSource(corpus, max_pieces=30, split="heldout", packing=packing)
    keep_first(source, 12)
    model = model_of(corpus)
    nll: list[float] = []
    for index in range(12):
        framed = frame_text(words, source[index])
        for place in np.flatnonzero(~framed.fixed):
            shown = framed.pieces.copy()
            shown[place] = words.mask
            with torch.no_grad():
                logits = model.eval()(torch.from_numpy(shown)[None]).logits[0, place]
            nll.append(F.cross_entropy(logits, torch.tensor(framed.pieces[place])).item())
    questions = build_questions([MlmRecipe()], words, source)
    found = pseudo_perplexity(model, questions, words, source, seed=5)
    assert found == {"pseudo_perplexity": pytest.approx(math.exp(np.mean(nll)), rel=1e-5)}


def test_pieces_are_drawn_evenly_and_once(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "ASKED_PIECES", 50)
    source = ShardSource(corpus, max_pieces=30, split="heldout")
    often = np.zeros(len(source))
    for seed in range(200):
        drawn = [pair for group in evaluate._hidden_pieces(source, seed) for pair in group]
        assert len(set(drawn)) == len(drawn) == 50
        assert all(0 <= place < source.lengths[index] for index, place in drawn)
        often += np.bincount([index for index, _ in drawn], minlength=len(source))
    wanted = 200 * 50 * source.lengths / source.lengths.sum()
    # Poisson at most; 5 standard deviations over some hundred examples.
    assert (np.abs(often - wanted) < 5 * np.sqrt(wanted) + 1).all()


class Counted:
    """Lengths that count how many of them are looked up."""

    def __init__(self, lengths: np.ndarray) -> None:
        self.lengths, self.looked_up = lengths, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: Any) -> Any:
        found = self.lengths[at]
        self.looked_up += np.size(found)
        return found

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.looked_up += len(self.lengths)
        return self.lengths.astype(dtype or np.int32)


def test_a_sample_costs_as_much_of_a_large_corpus_as_of_a_small_one(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "ASKED_PIECES", 5)
    source = ShardSource(corpus, max_pieces=30, split="heldout")
    questions = build_questions([MlmRecipe()], corpus_tokenizer(corpus).vocabulary, source)
    shards, a_shard = 1_000, 2_000
    counted = Counted(np.random.default_rng(0).integers(1, 60, shards * a_shard).astype(np.int32))
    sums = counted.lengths.reshape(shards, a_shard).sum(1)
    source._slices = Slices(
        np.zeros(0, np.uint32),
        cast("Any", counted),
        np.arange(shards + 1) * a_shard,
        np.cumsum([0, *sums], dtype=np.int64),
    )
    source.lengths, source.pieces = cast("Any", counted), int(sums.sum())
    tracemalloc.start()
    groups = evaluate._groups(questions, source, seed=3)
    pairs = evaluate._hidden_pieces(source, 3)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    chosen = np.concatenate(groups)
    assert len(np.unique(chosen)) == len(chosen)
    assert counted.lengths[chosen].sum() == pytest.approx(evaluate.HELDOUT_PIECES, rel=0.1)
    assert np.ptp(chosen) > 0.9 * shards * a_shard
    assert counted.looked_up < 3 * len(chosen) + 5 * (a_shard + 2)
    assert most_bytes < 2_000_000  # of lengths there are 8 MB
    ends = np.cumsum(counted.lengths)  # and pieces are the same ones as if all lengths were added up
    drawn = np.sort(np.random.default_rng((3, 1)).choice(int(ends[-1]), 5, replace=False, shuffle=False))
    examples = np.searchsorted(ends, drawn, side="right")
    wanted = zip(
        examples.tolist(), (drawn - ends[examples] + counted.lengths[examples]).tolist(), strict=True
    )
    assert sorted(pair for group in pairs for pair in group) == sorted(wanted)


def test_a_small_heldout_set_is_read_whole(corpus: Path) -> None:
    source = ShardSource(corpus, max_pieces=30, split="heldout")
    assert source.pieces < evaluate.HELDOUT_PIECES
    questions = build_questions([MlmRecipe()], corpus_tokenizer(corpus).vocabulary, source)
    chosen = np.concatenate(evaluate._groups(questions, source, seed=3))
    assert sorted(chosen.tolist()) == list(range(len(source)))


def test_a_run_without_mlm_has_none(corpus: Path) -> None:
    words = corpus_tokenizer(corpus).vocabulary
    source = ShardSource(corpus, max_pieces=30, split="heldout")
    questions = build_questions([CausalRecipe()], words, source)
    assert pseudo_perplexity(model_of(corpus), questions, words, source, seed=0) == {}


class Threads(World):
    """Ranks that are threads of this process."""

    __slots__ = ("barrier", "box")

    def gather(self, value: Any) -> list[Any]:
        self.box[self.rank] = value
        self.barrier.wait(timeout=300)
        found = [self.box[rank] for rank in range(self.size)]
        self.barrier.wait(timeout=300)
        return found

    def all_sum(self, values: Any) -> dict[str, float]:
        return add_up(self.gather(dict(values)))


def in_threads(size: int, work: Any) -> list[Any]:
    barrier, box, found = threading.Barrier(size), dict[int, Any](), dict[int, Any]()

    def one(rank: int) -> None:
        world = Threads(rank, size)
        object.__setattr__(world, "barrier", barrier)
        object.__setattr__(world, "box", box)
        found[rank] = work(world)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(size)]


@pytest.mark.parametrize("size", [2, 3, 64])  # 64: more ranks than batches
def test_ranks_share_the_work_and_agree(corpus: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(evaluate, "_BATCH_PIECES", 150)
    monkeypatch.setattr(evaluate, "ASKED_PIECES", 100)
    words = corpus_tokenizer(corpus).vocabulary
    source = ShardSource(corpus, max_pieces=29, split="heldout")
    objectives = [MlmRecipe(share=2.0), NspRecipe(), CausalRecipe(share=1.0)]
    questions = build_questions(objectives, words, source)
    model = model_of(corpus)

    def figures(world: World) -> tuple[dict[str, float], int]:
        passes = [0]
        mine = model_of(corpus)
        mine.encoder.register_forward_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
        found = heldout_figures(mine, questions, source, seed=1, world=world)
        return found | pseudo_perplexity(mine, questions, words, source, seed=1, world=world), passes[0]

    alone = heldout_figures(model, questions, source, seed=1)
    alone |= pseudo_perplexity(model, questions, words, source, seed=1)
    assert {"loss", "mlm", "nsp", "causal", "mlm_word_accuracy", "pseudo_perplexity"} <= alone.keys()
    every = in_threads(size, figures)
    assert len({passes for _, passes in every}) == 1
    assert all(found == every[0][0] for found, _ in every)
    assert every[0][0] == pytest.approx(alone, rel=1e-6)


def test_a_finished_run_is_read_again_at_any_length(corpus: Path, tmp_path: Path) -> None:
    recipe = recipe_of(corpus, steps=2)
    run(recipe, RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {"loss", "mlm_accuracy", "mlm_word_accuracy", "pseudo_perplexity"} == result["figures"].keys()
    again = evaluate_model(tmp_path / "run", corpus, max_length=32, seed=3)
    assert again == pytest.approx(result["figures"], rel=1e-6)
    short = evaluate_model(tmp_path / "run" / "model", corpus, max_length=12)
    assert short.keys() == again.keys()
    assert short["loss"] != again["loss"]
    last = lines_of(tmp_path / "run")[-1]
    assert last["heldout/pseudo_perplexity"] == pytest.approx(again["pseudo_perplexity"], rel=1e-6)
    shares = [line["train/share_of_peak"] for line in lines_of(tmp_path / "run") if "train/loss" in line]
    assert len(shares) == 2
    assert all(0 < share < 2 for share in shares)  # a busy machine's peak may be measured too low


def test_what_cannot_be_asked_is_told(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has learned 16 positions"):
        evaluate_model(model_of(corpus, max_length=16), corpus, max_length=32)
    model = build(None, family="bert", values=TINY, vocab=300, heads=HeadsConfig(), seed=0)
    with pytest.raises(ModelError, match="no head mlm, which mlm would ask"):
        evaluate_model(model, corpus)
    spans = [MlmRecipe(), SpanBoundaryRecipe()]
    with pytest.raises(ModelError, match="no head span_boundary, which mlm, span_boundary would ask"):
        evaluate_model(model_of(corpus), corpus, objectives=spans)
    save_model(model_of(corpus), tmp_path / "model")
    with pytest.raises(ModelError):
        evaluate_model(tmp_path / "model", corpus)


def test_pseudo_perplexity_may_be_left_to_the_end(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "ASKED_PIECES", 20)
    for when, asked in (("each", [2, 4]), ("last", [4])):
        recipe = recipe_of(corpus, steps=4, evaluate_every=2)
        recipe = recipe.model_copy(update={"pseudo_perplexity": when})
        folder = tmp_path / when
        run(recipe, RunDir.open(folder, verb="pretrain", recipe=recipe))
        lines = lines_of(folder)
        assert [line["step"] for line in lines if "heldout/mlm_accuracy" in line] == [2, 4]
        assert [line["step"] for line in lines if "heldout/pseudo_perplexity" in line] == asked


def test_a_tracked_run_that_was_killed_has_each_point_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "ASKED_PIECES", 20)
    recipe = recipe_of(corpus, steps=12, save_every=5, evaluate_every=4, track=["tensorboard"])
    steps = Session._steps

    def dying(self: Session) -> Iterator[Any]:
        for step in steps(self):
            if step.number == 9:
                raise RuntimeError("killed")
            yield step

    folder = RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "_steps", dying)
        with pytest.raises(RuntimeError, match="killed"):
            run(recipe, folder)
    folder.close()
    run(recipe, RunDir.open(tmp_path / "run", verb="pretrain", recipe=recipe))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    told = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    wanted: dict[str, list[tuple[int, float]]] = {}
    for line in lines_of(tmp_path / "run"):
        for name, value in line.items():
            if name != "step":
                wanted.setdefault(name, []).append((line["step"], pytest.approx(value, rel=1e-6)))
    assert told == wanted
    assert [step for step, _ in told["train/loss"]] == list(range(1, 13))
    assert [step for step, _ in told["heldout/mlm_word_accuracy"]] == [4, 8, 12]
    assert [step for step, _ in told["heldout/pseudo_perplexity"]] == [4, 8, 12]
