"""`fenghuo evaluate`: what it is asked with, and what it refuses."""

from types import SimpleNamespace

import pytest

from fenghuo.errors import DataError, RecipeError
from fenghuo.report import evaluate as room


class Predictor:
    """Answers nothing; only its task is looked at."""

    def __init__(self, kind, labels):
        self.task = SimpleNamespace(kind=kind, labels=labels)

    def __call__(self, rows):
        return [{"label": self.task.labels[0], "entities": []} for _ in rows]


def asked(monkeypatch, tmp_path, kind, labels, text, task=None, layout=None):
    monkeypatch.setattr(room, "load_predictor", lambda _: Predictor(kind, labels))
    data = tmp_path / ("rows.txt" if kind == "tag" else "rows.tsv")
    data.write_text(text, encoding="utf-8")
    return room.evaluate(tmp_path, data, task, layout)


def test_an_unknown_task_is_the_users_mistake_and_names_the_known_ones(monkeypatch, tmp_path):
    with pytest.raises(RecipeError, match=r"unknown task 'nosuch'.*Known: classify"):
        asked(monkeypatch, tmp_path, "classify", ("a", "b"), "label\ttext\na\tx\n", task="nosuch")


def test_labels_the_model_does_not_know_are_refused_for_classes_and_for_tags(monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"'c' is none of the model's \(a, b\)"):
        asked(monkeypatch, tmp_path, "classify", ("a", "b"), "label\ttext\nc\tx\n")
    tags = ("O", "B-PER", "I-PER")
    with pytest.raises(DataError, match=r"'XX' is none of the model's \(PER\)"):
        asked(monkeypatch, tmp_path, "tag", tags, "江 B-XX\n泽 I-XX\n")
    assert asked(monkeypatch, tmp_path, "tag", tags, "江 B-PER\n泽 I-PER\n")["examples"] == 1


def test_a_file_is_read_by_the_columns_that_are_given(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "class_scores", lambda gold, given: gold)  # scikit-learn takes its time to load
    rows = "review,mark\nx,a\ny,?\n"
    with pytest.raises(DataError, match=r"no column 'text'.*data\.text"):
        asked(monkeypatch, tmp_path, "classify", ("a", "b"), rows, layout={"format": "csv"})
    layout = {"format": "csv", "text": "review", "label": "mark", "skip_label": "?"}
    found = asked(monkeypatch, tmp_path, "classify", ("a", "b"), rows, layout=layout)
    assert (found["examples"], found["metrics"]) == (1, ["a"])
    given = {"columns": ["text_a", "label"]}  # beside the data set's own layout
    assert asked(monkeypatch, tmp_path, "classify", ("a",), "x\ta\n", "chnsenticorp", given)["examples"] == 1
