"""Phases of length and growing batches: what a step takes, and that a resumed run takes the same."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fenghuo.config import build_recipe
from fenghuo.corpus.batch import BatchRecipe
from fenghuo.corpus.loader import Loader
from fenghuo.errors import RecipeError
from fenghuo.pretrain.curriculum import Curriculum, curriculum
from fenghuo.pretrain.recipe import PretrainRecipe
from fenghuo.pretrain.run import plan, run
from fenghuo.rundir import RunDir
from fenghuo.training.course import ByClock, BySteps

TINY = {"layers": 2, "layer_groups": 2, "width": 32, "embed_width": 32, "inner_width": 64, "heads": 2}
PHASES = [{"max_length": 16, "share": 0.7}, {"max_length": 48, "share": 0.3, "batch": {"pieces": 900}}]


def recipe_of(corpus: Path | str, **values: Any) -> PretrainRecipe:
    standard = {
        "corpus": str(corpus),
        "model": {"preset": "nezha-4l-312", "values": TINY},
        "batch": {"pieces": 512},
        "optimizer": {"learning_rate": 3e-3},
        "train": {"steps": 20, "seed": 3, "save_every": 4, "log_every": 5},
    }
    return build_recipe(PretrainRecipe, {**standard, **values})


class Numbers:
    """Examples of one number each: their own."""

    def __init__(self, size: int, length: int) -> None:
        self.lengths = np.full(size, length, np.int32)
        self.pieces = size * length

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> int:
        return index


def loader_of(max_length: int, batch: BatchRecipe) -> tuple[Any, Loader]:
    def prepare(index: int, rng: np.random.Generator) -> dict[str, Any]:
        return {"pieces": np.full(max_length, index), "index": np.array(index)}

    source = Numbers(96, max_length)
    return source, Loader.of(source, prepare, batch, seed=5)


def taken(way: Curriculum, steps: int, cursor: tuple[int, ...], start: int, total: int) -> list[Any]:
    """(length, indices) of each step, and the cursor after it."""
    course = BySteps(total)
    found = []
    stream = way.iterate(course)(cursor)
    for number in range(start + 1, start + steps + 1):
        course.begin(number)
        after, batches = next(stream)
        indices = [int(i) for batch in batches for i in batch["index"]]
        found.append((len(batches[0]["pieces"]) // len(batches[0]["index"]), indices, after))
    return found


def test_batches_grow_evenly_to_the_whole_and_skip_nothing() -> None:
    recipe = recipe_of("c", max_length=8, batch={"rows": 32, "warmup": {"start": 0.25, "steps": 8}})
    way = curriculum(recipe, loader_of)
    steps = taken(way, 30, way.start, 0, 30)
    sizes = [len(indices) for _, indices, _ in steps]
    assert sizes[0] == pytest.approx(8, abs=1)
    assert sizes[:9] == sorted(sizes[:9])
    assert np.mean(sizes[8:]) == pytest.approx(32, rel=0.05)
    seen = [index for _, indices, _ in steps for index in indices]
    assert set(Counter(seen[:96]).values()) == {1}  # the first epoch, each once


def test_epochs_count_what_growing_batches_take() -> None:
    recipe = recipe_of(
        "c", max_length=8, batch={"rows": 32, "warmup": {"start": 0.25, "steps": 8}}, train={"epochs": 6}
    )
    way = curriculum(recipe, loader_of)
    total = way.total_steps(recipe.train)
    assert total is not None
    steps = taken(way, total, way.start, 0, total)
    assert sum(len(indices) for _, indices, _ in steps) == pytest.approx(6 * 96, abs=32)


def test_a_phase_takes_its_share_and_any_cursor_goes_on_with_the_same_steps() -> None:
    phases = [
        {"max_length": 8, "share": 0.5},
        {"max_length": 16, "share": 0.3},
        {"max_length": 32, "share": 0.2, "batch": {"rows": 10}},
    ]
    recipe = recipe_of("c", phases=phases, batch={"rows": 20, "warmup": {"start": 0.5, "steps": 6}})
    assert recipe.max_length == 32
    way = curriculum(recipe, loader_of)
    whole = taken(way, 40, way.start, 0, 40)
    assert [length for length, _, _ in whole] == [8] * 20 + [16] * 12 + [32] * 8
    for stop in (1, 5, 19, 20, 21, 31, 32, 33, 39):
        assert taken(way, 40 - stop, whole[stop - 1][2], stop, 40) == whole[stop:]


def test_under_a_budget_the_clock_changes_the_phase_and_it_does_not_come_back() -> None:
    recipe = recipe_of("c", phases=PHASES, train={"budget": "100s"})
    way = curriculum(recipe, loader_of)
    now = [0.0]
    course = ByClock(100.0, began_s=0.0, clock=lambda: now[0])
    lengths, stream = [], way.iterate(course)(way.start)
    cursors = []
    for number in range(1, 90):
        course.begin(number)
        after, batches = next(stream)
        lengths.append(len(batches[0]["pieces"]) // len(batches[0]["index"]))
        cursors.append(after)
        now[0] += 1.0
        course.took()
    assert lengths == [16] * 70 + [48] * 19
    # A later process whose clock reads less stays in the phase that the checkpoint names.
    fresh = ByClock(1000.0, began_s=0.0, clock=lambda: 1.0)
    fresh.begin(81)
    _, batches = next(way.iterate(fresh)(cursors[79]))
    assert len(batches[0]["pieces"]) // len(batches[0]["index"]) == 48


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"phases": [{"max_length": 16, "share": 0.5}]}, "do not add up to 1"),
        ({"phases": PHASES, "max_length": 64}, "the longest phase has 48"),
        ({"phases": PHASES, "train": {"epochs": 2}}, "'train.epochs' has no meaning over phases"),
        ({"batch": {"rows": 3, "warmup": {"start": 0.1, "steps": 5}}}, "asks for 10 parts"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_of("c", **values)


def test_the_resolved_recipe_is_read_back() -> None:
    recipe = recipe_of("c", phases=PHASES)
    assert build_recipe(PretrainRecipe, recipe.model_dump(mode="json")) == recipe


def finish(recipe: PretrainRecipe, out: Path) -> dict[str, Any]:
    run(recipe, RunDir.open(out, verb="pretrain", recipe=recipe))
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def test_the_dry_run_shows_the_phases(corpus: Path) -> None:
    said = plan(
        recipe_of(corpus, phases=PHASES, batch={"pieces": 512, "warmup": {"start": 0.25, "steps": 5}})
    )
    assert "phase            0% to 70%: up to 16 pieces an example" in said
    assert "from 1/4 of it over 5 steps" in said
    assert "phase            70% to 100%: up to 48 pieces an example" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "lamb"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_cut_off_in_any_phase_ends_in_the_same_bits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    """With all that a checkpoint has to hold: slow weights between two moves, scale, phase, growing batches."""
    recipe = recipe_of(
        corpus,
        phases=PHASES,
        batch={"pieces": 512, "warmup": {"start": 0.25, "steps": 9}},
        optimizer={"name": name, "learning_rate": 3e-3, "lookahead": {"steps": 5}},
        train={"steps": 20, "seed": 3, "save_every": 3, "keep": 9, "precision": precision},
    )
    whole = finish(recipe, tmp_path / "whole")
    for stop in (3, 12, 15, 18):  # 12 and 18 are no moves of the slow weights, and 15 is in the second phase
        cut = tmp_path / f"cut-{stop}"
        shutil.copytree(tmp_path / "whole", cut)
        (cut / "result.json").unlink()
        shutil.rmtree(cut / "model")
        for path in (cut / "checkpoints").iterdir():
            if int(path.name[5:]) > stop:
                shutil.rmtree(path)
        again = finish(recipe, cut)
        assert weights(cut) == weights(tmp_path / "whole")
        assert again["figures"] == whole["figures"]


@pytest.mark.slow
def test_a_budget_of_some_seconds_ends_on_time(corpus: Path, tmp_path: Path) -> None:
    """Within the slowest step and the end's own work, on a machine that may be busy: half a second and a quarter."""
    recipe = recipe_of(corpus, train={"budget": 8, "seed": 1, "log_every": 1}, phases=PHASES)
    result = finish(recipe, tmp_path / "run")
    assert result["budget_s"] == 8.0
    assert 6.0 <= result["spent_s"] <= 8.5
    assert result["steps"] > 5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["train/learning_rate"] for line in lines if "train/learning_rate" in line]
    assert rates[-1] < 0.1 * max(rates)
    assert sum("heldout/loss" in line for line in lines) >= 4


@pytest.mark.slow
def test_recomputing_layers_gives_the_same_model(corpus: Path, tmp_path: Path) -> None:
    train = {"steps": 6, "seed": 3}
    finish(recipe_of(corpus, max_length=32, train=train), tmp_path / "kept")
    finish(recipe_of(corpus, max_length=32, train={**train, "recompute": True}), tmp_path / "again")
    assert weights(tmp_path / "kept") == weights(tmp_path / "again")


def test_compile_says_where_it_works(corpus: Path, tmp_path: Path) -> None:
    recipe = recipe_of(corpus, train={"steps": 2, "compile": True, "device": "cpu"})
    with pytest.raises(
        RecipeError, match=r"train\.compile: true works on CUDA only, and this model is on 'cpu'"
    ):
        finish(recipe, tmp_path / "run")
