"""The ledger over run folders: drops along a line, the gate, and the clock."""

import json
import shutil
from dataclasses import fields

import numpy as np
import pytest

from fenghuo.errors import DataError, GateError, RunError
from fenghuo.report import speed, stopwatch
from fenghuo.report.ledger import Row, gate, ledger, render, to_json


@pytest.fixture
def clock(monkeypatch):
    """Moved by fake predictors: teachers take 8 ms a text, students 2, int8 1."""
    now = {"s": 0.0, "calls": 0, "slower": 1.0}
    took_s = {"teacher": 0.008, "student": 0.002, "quantized": 0.001, "baseline": 0.002}

    class Predict:
        def __init__(self, folder, threads):
            self.backend = "int8" if (folder / "onnx" / "model_quantized.onnx").exists() else "torch"
            self._s = took_s[folder.parent.name]

        def ask(self, text):
            if text == "no question":
                raise DataError("'text' is empty")

        def __call__(self, texts):
            now["s"] += self._s * len(texts) * now["slower"]
            now["calls"] += 1

    monkeypatch.setattr(speed, "load_predictor", lambda folder, threads: Predict(folder, threads))
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now["s"])
    return now


def by_run(rows):
    return {row.run.rsplit("/", 1)[-1]: row for row in rows}


def test_drops_follow_the_line_up_to_its_teacher(runs):
    rows = by_run(ledger(runs.line(), measure=False))
    assert {name: row.drop for name, row in rows.items()} == {
        "pretrained": None,
        "teacher": 0.0,
        "general": None,
        "student": 1.0,
        "quantized": 1.25,
        "baseline": None,
    }
    assert {name: row.role for name, row in rows.items()} == {
        "pretrained": "pretrained",
        "teacher": "teacher",
        "general": "pretrained",
        "student": "student",
        "quantized": "quantized",
        "baseline": "finetuned",
    }
    assert (rows["quantized"].bytes, rows["student"].bytes) == (300, 1000)
    assert rows["quantized"].model == "nezha 4x64 int8"
    assert rows["teacher"].model == "nezha 4x256"
    assert rows["pretrained"].metric == "heldout_mlm_accuracy"


def test_the_teacher_need_not_be_listed(runs):
    line = runs.line()
    rows = by_run(ledger([line[4]], measure=False))
    assert rows["quantized"].drop == 1.25


def test_a_moved_teacher_is_known_by_its_bytes(runs, tmp_path):
    line = runs.line()
    moved = shutil.move(line[1], tmp_path / "elsewhere")
    rows = by_run(ledger([line[3], moved], measure=False))
    assert rows["student"].drop == 1.0
    assert rows["elsewhere"].role == "teacher"


def retrain(run, value):
    """As `--overwrite` does: other weights and another figure at the same path."""
    (run / "model" / "model.safetensors").write_bytes(b"trained anew".ljust(1000, b"\0"))
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"value": value}))


def test_a_teacher_that_was_trained_anew_is_not_the_one_to_be_measured_against(runs, tmp_path, capsys):
    _, teacher, _, student, quantized, _ = runs.line()
    shutil.copytree(teacher, tmp_path / "kept")
    retrain(teacher, value=0.5)
    rows = by_run(ledger([student, quantized, tmp_path / "kept"], measure=False))
    assert (rows["student"].drop, rows["quantized"].drop) == (1.0, 1.25)
    assert rows["kept"].role == "teacher"

    capsys.readouterr()
    rows = ledger([teacher, student], measure=False)
    assert by_run(rows)["student"].drop is None
    assert f"its teacher {teacher} is another model by now" in capsys.readouterr().err
    with pytest.raises(GateError, match=r"student.*no teacher"):
        gate(rows, 5.0)


def test_what_was_quantized_and_is_another_model_now_is_named(runs, capsys):
    _, _, _, student, quantized, _ = runs.line()
    retrain(student, value=0.5)
    assert ledger([quantized], measure=False)[0].drop is None
    assert f"its model {student} is another model by now" in capsys.readouterr().err


def test_a_teacher_asked_about_other_texts_is_no_measure(runs, capsys):
    data, other = runs.data(), runs.data("other.tsv", rows=30)
    teacher = runs.answering("teacher", role="finetuned", value=0.92, data=data)
    student = runs.answering("student", role="student", value=0.91, data=other, inputs=[("teacher", teacher)])
    rows = ledger([teacher, student], measure=False)
    assert by_run(rows)["student"].drop is None
    assert "evaluated on another file" in capsys.readouterr().err
    with pytest.raises(GateError, match=r"student.*no teacher that was evaluated alike"):
        gate(rows, 5.0)


def test_a_line_that_bites_its_tail_ends(runs):
    data = runs.data()
    first, second = runs.folder / "first", runs.folder / "second"
    runs.answering("first", role="student", value=0.9, data=data, inputs=[("teacher", second)])
    runs.answering("second", role="student", value=0.8, data=data, inputs=[("teacher", first)])
    assert len(ledger([first, second], measure=False)) == 2


def test_the_gate_names_what_lost_too_much(runs):
    rows = ledger(runs.line(), measure=False)
    gate(rows, 1.25)
    with pytest.raises(GateError, match=r"quantized.*drop 1\.25 points") as caught:
        gate(rows, 1.0)
    assert caught.value.exit_code == 3
    assert "student (" not in str(caught.value)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_the_gate_fails_where_a_figure_is_no_number(runs, value):
    data = runs.data()
    teacher = runs.answering("teacher", role="finetuned", value=0.92, data=data)
    student = runs.answering("student", role="student", value=value, data=data, inputs=[("teacher", teacher)])
    with pytest.raises(GateError):
        gate(ledger([teacher, student], measure=False), 5.0)


def test_a_gate_without_anything_to_compare_fails(runs, capsys):
    line = runs.line()
    with pytest.raises(GateError, match="none of these runs has a teacher"):
        gate(ledger([line[0], line[5]], measure=False), 5.0)
    shutil.rmtree(line[1])
    rows = ledger([line[3]], measure=False)
    assert "teacher is no finished run here" in capsys.readouterr().err
    with pytest.raises(GateError, match=r"student.*no teacher"):
        gate(rows, 5.0)


def test_runs_that_are_not_finished_and_runs_without_a_metric(runs, capsys):
    line = runs.line()
    corpus = runs.make("corpus", result={"role": "corpus", "documents": 3}, model=False)
    assert len(ledger([corpus, *line], measure=False)) == len(line)
    assert "corpus: left out" in capsys.readouterr().err
    with pytest.raises(RunError, match="has a metric"):
        ledger([corpus], measure=False)
    (corpus / "result.json").unlink()
    with pytest.raises(RunError, match="unfinished"):
        ledger([corpus], measure=False)


def test_the_clock_and_what_it_keeps(runs, clock):
    line = runs.line()
    rows = by_run(ledger(line, threads=2))
    assert rows["teacher"].p50_ms == rows["teacher"].p95_ms == pytest.approx(8.0)
    assert rows["student"].texts_per_s == pytest.approx(500.0)
    assert {name: row.speedup for name, row in rows.items()} == {
        "pretrained": None,
        "teacher": 1.0,
        "general": None,
        "student": 4.0,
        "quantized": 8.0,
        "baseline": None,
    }
    assert rows["pretrained"].p50_ms is None

    calls = clock["calls"]
    assert by_run(ledger(line, threads=2)) == rows
    assert clock["calls"] == calls
    ledger(line, threads=1)  # another question
    assert clock["calls"] > calls
    calls = clock["calls"]
    (line[3] / "model" / "model.safetensors").write_bytes(b"other weights")
    ledger(line, threads=2)  # all again: figures of different hours are not compared
    assert clock["calls"] > calls + 4 * stopwatch.ROUNDS * stopwatch.FEWEST_CALLS_A_ROUND


def test_figures_of_different_sittings_are_not_mixed(runs, clock):
    _, teacher, _, student, _, baseline = runs.line()
    ledger([teacher, student])
    clock["slower"] = 3.0  # another hour, a busier machine
    ledger([baseline])
    calls = clock["calls"]
    rows = by_run(ledger([teacher, baseline]))
    assert clock["calls"] > calls
    assert (rows["teacher"].p50_ms, rows["baseline"].p50_ms) == pytest.approx((24.0, 6.0))
    calls = clock["calls"]
    assert by_run(ledger([baseline, teacher])) == rows
    assert by_run(ledger([baseline]))["baseline"].p50_ms == pytest.approx(6.0)
    assert clock["calls"] == calls, "one sitting's figures are kept, whatever part of them is asked for"


def test_another_version_of_fenghuo_is_measured_anew(runs, clock, monkeypatch):
    line = runs.line()
    ledger(line)
    calls = clock["calls"]
    monkeypatch.setattr(speed, "__version__", "another")
    ledger(line)
    assert clock["calls"] > calls


def test_a_row_that_a_model_refuses_stops_no_clock(runs, clock, monkeypatch, capsys):
    line = runs.line()
    texts = speed.evaluated_texts
    monkeypatch.setattr(
        speed, "evaluated_texts", lambda run: [*texts(run), *["no question"] * (run.path == line[3])]
    )
    rows = by_run(ledger(line))
    assert rows["student"].p50_ms is None
    assert rows["quantized"].speedup == 8.0
    assert "student: not timed: 'text' is empty" in capsys.readouterr().err


def test_a_file_with_a_row_without_text_leaves_the_columns_empty(runs, clock, capsys):
    line = runs.line()
    with (runs.folder / "test.tsv").open("a", encoding="utf-8") as file:
        file.write("positive\t \n")
    rows = by_run(ledger(line))
    assert (rows["student"].p50_ms, rows["student"].drop) == (None, 1.0)
    assert "test.tsv:42: the text is empty" in capsys.readouterr().err


def test_a_busy_machine_is_said_and_not_believed(runs, clock, monkeypatch, capsys):
    measure = stopwatch._singles
    singles = []

    def busier(one, number):
        singles.append(number)
        clock["slower"] = 3.0 if number == 2 else 1.0
        return measure(one, number)

    monkeypatch.setattr(stopwatch, "_singles", busier)
    line = runs.line()
    ledger(line, threads=2)
    assert "differ by a factor of 3.0" in capsys.readouterr().err
    assert not (line[1] / speed.CACHE).exists()
    rounds = len(singles)
    ledger(line, threads=2)
    assert len(singles) == 2 * rounds
    assert singles[:rounds] == sorted(singles[:rounds]), "models take turns"


def test_measuring_leaves_the_fingerprint_of_a_run_alone(runs, clock):
    line = runs.line()
    before = speed.sha256_of(line[1])
    ledger(line, threads=2)
    assert (line[1] / speed.CACHE).exists()
    assert speed.sha256_of(line[1]) == before


def test_texts_that_are_gone_leave_the_columns_empty(runs, clock, capsys):
    line = runs.line()
    (runs.folder / "test.tsv").unlink()
    rows = by_run(ledger(line, threads=2))
    assert rows["student"].p50_ms is None
    assert rows["student"].drop == 1.0
    assert "not timed" in capsys.readouterr().err


def test_latency_uses_real_texts_spread_over_the_file(runs, monkeypatch):
    monkeypatch.setattr(speed, "TEXTS", 10)
    run = speed.Run.read(runs.answering("x", role="finetuned", value=0.9, data=runs.data(rows=40)))
    texts = speed.evaluated_texts(run)
    assert len(texts) == 10
    assert texts[0].startswith("酒店很好，第0次")
    assert texts[-1].startswith("酒店很好，第36次")


@pytest.mark.parametrize("count", [1, 255, 256, 257, 511, 1000])
def test_timed_texts_come_from_all_over_the_file(runs, count):
    path = runs.folder / "rows.tsv"
    path.write_text("label\ttext\n" + "".join(f"a\t{n}\n" for n in range(count)), encoding="utf-8")
    run = speed.Run.read(runs.answering("x", role="finetuned", value=0.9, data=path))
    numbers = [int(text) for text in speed.evaluated_texts(run)]
    assert len(numbers) == min(count, speed.TEXTS)
    step = count / len(numbers)
    assert all(abs(number - place * step) < 1 for place, number in enumerate(numbers))


@pytest.mark.parametrize(
    "recipe",
    [
        "data: {text: review, format: csv}\n",
        "evaluate: {data: {text: review, format: csv}}\n",  # a quantization
    ],
)
def test_rows_are_read_as_the_run_read_them(runs, recipe):
    path = runs.folder / "rows.txt"
    path.write_text('review,label\n"很好，真的",positive\n', encoding="utf-8")
    run = runs.answering("x", role="quantized", value=0.9, data=path, recipe=recipe)
    assert speed.evaluated_texts(speed.Run.read(run)) == ["很好，真的"]


def test_slow_models_are_not_asked_all_day(monkeypatch):
    now = {"s": 0.0}

    def predict(texts):
        now["s"] += 4.0 * len(texts)

    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now["s"])
    (times,) = stopwatch.measure([(predict, ["一", "二三"] * 8)])
    assert times.calls == stopwatch.ROUNDS * stopwatch.FEWEST_CALLS_A_ROUND
    assert times.p50_ms == times.p95_ms == pytest.approx(4000)
    assert times.texts_per_s == pytest.approx(0.25, abs=0.1)
    assert times.spread == 1.0
    assert now["s"] < 4 * (stopwatch.WARM_UP_CALLS + times.calls + 16 + 1)


def test_percentiles_are_those_of_single_calls(monkeypatch):
    now = {"s": 0.0}

    def predict(texts):
        now["s"] += 0.001 * sum(map(len, texts))

    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now["s"])
    lengths = [1 + n % 100 for n in range(256)]
    texts = ["字" * length for length in lengths]
    times, other = stopwatch.measure([(predict, texts), (predict, [("一", "二三")])])
    assert (times.p50_ms, times.p95_ms) == pytest.approx(tuple(np.percentile(lengths, [50, 95])))
    assert times.calls == stopwatch.ROUNDS * stopwatch.CALLS_A_ROUND
    assert other.calls == times.calls


def test_json_has_the_promised_fields(runs):
    rows = ledger(runs.line(), measure=False)
    (first, *_) = records = json.loads(to_json(rows))
    assert list(first) == (
        "run role model task metric value drop parameters bytes p50_ms p95_ms texts_per_s speedup".split()  # noqa: SIM905
    )
    assert list(first) == [field.name for field in fields(Row)]
    assert len(records) == 6


def test_the_table_reads_well(runs):
    rows = ledger(runs.line(), measure=False)
    text = render(rows)
    lines = text.split("\n")
    assert lines[0].split()[:3] == ["run", "role", "model"]
    assert len(lines) == 2 + 6
    assert any("+1.25" in line and "300 B" in line and "1.2 M" in line for line in lines)
