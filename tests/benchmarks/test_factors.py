"""Figures of the experiment on pretraining are of the arm, the seed and the unit that they are said to be of."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "experiments"))

from factors_records import collect, read, write
from factors_table import Table

HELDOUT = {"mlm_accuracy": 0.2, "mlm_word_accuracy": 0.1}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two pretrainings of two arms, three of `few-static`'s fine-tunings, and what is not finished."""
    for run, loss in {
        "base-1": 5.0,
        "base-2": 5.5,
        "absolute-1": 6.0,
        "absolute-2": 6.1,
        "few-static-1": 5.8,
    }.items():
        told = {"128": {**HELDOUT, "loss": loss, "pseudo_perplexity": math.exp(loss + 1)}}
        put(tmp_path / run / "lengths.json", told)
        (tmp_path / run / "recipe.yaml").write_text("batch: {pieces: 1000}")
        put(tmp_path / run / "metrics.jsonl", {"step": 500, "heldout/loss": 7.0})
        spend(tmp_path, run, 10.0)
    for tuned, accuracy in {1: 0.70, 2: 0.72, 3: 0.74}.items():
        put(tmp_path / f"few-static-1-reviews-{tuned}" / "result.json", {"value": accuracy})
        spend(tmp_path, f"few-static-1-reviews-{tuned}", 1.0)
    put(tmp_path / "base-2-reviews-2" / "result.json", {"value": 0.8})
    put(tmp_path / "base-2-reviews-2" / "short.json", {"metrics": {"accuracy": 0.9}})
    spend(tmp_path, "base-2-reviews-2", 1.0)
    spend(tmp_path, "base-2-reviews-2", 0.5)
    spend(tmp_path, "spans-1", 3.0)
    spend(tmp_path, "spans-1-entities-1", 3.0)
    spend(tmp_path, "corpus-few", 2.0)
    return tmp_path


def put(path: Path, told: object) -> None:
    """A file of one JSON line."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(told) + "\n")


def spend(out: Path, run: str, cpu_s: float) -> None:
    """A process of a run."""
    with (out / "costs.jsonl").open("a") as file:
        file.write(json.dumps({"run": run, "cpu_s": cpu_s}) + "\n")


def test_records_say_what_the_folder_says(runs: Path) -> None:
    records = {record.run: record for record in collect(runs)}
    assert list(records)[-4:] == [*(f"few-static-1-reviews-{seed}" for seed in (1, 2, 3)), "base-2-reviews-2"]
    assert not records.keys() & {"spans-1", "spans-1-entities-1"}
    pretrained, tuned = records["few-static-1"], records["base-2-reviews-2"]
    assert (pretrained.arm, pretrained.seed, pretrained.tuned) == ("few-static", 1, 0)
    assert list(pretrained.figures.values()) == pytest.approx([5.8, 6.8, 20.0])
    assert list(pretrained.curve) == [(0.5, 7.0)]
    assert (tuned.arm, tuned.seed, tuned.tuned, tuned.cpu_s) == ("base", 2, 2, 1.5)
    assert list(tuned.figures.values()) == pytest.approx([80.0, 90.0])
    assert (records["corpus-few"].arm, records["corpus-few"].cpu_s) == ("", 2.0)


def test_records_come_back_from_their_file(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(write(collect(runs)))
    assert write(read(file)) == file.read_text()


def test_intervals_are_over_pretrainings_where_both_arms_have_several(runs: Path) -> None:
    rows = [row.split(" | ") for row in str(Table(collect(runs))).splitlines()]
    (found,) = [
        row for row in rows if row[0] == "| relative positions against absolute ones" and len(row) == 5
    ]
    # differences -1.0 and -0.6: t(1) = 12.706, s / sqrt(2) = 0.2
    assert found[1:3] == ["pretrainings", "-0.8 [-3.34, +1.74]"]
    (static,) = [row for row in rows if row[0] == "| few-static" and "fine-tunings of one" in row]
    assert static[2] == "72 ± 2"


def test_a_folder_with_nothing_finished_makes_empty_tables(tmp_path: Path) -> None:
    spend(tmp_path, "corpus", 36.0)
    assert str(Table(collect(tmp_path))).endswith(
        "0 pretrainings, 0 fine-tunings, 0.01 hours of processor time."
    )
