"""`fenghuo predict`: a line out for each line in, whatever the line is."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.errors import DataError, DiskError, ModelError, UsageError
from fenghuo.serve import stream
from fenghuo.serve.predictor import load_predictor
from fenghuo.serve.stream import predict_stream

GOOD = {"id": 7, "text": "服务很好", "stars": 5}


def answered(folder, lines: list[bytes], tmp_path, **options) -> tuple[int, list[dict]]:
    (tmp_path / "in.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    code = predict_stream(folder, str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), **options)
    out = (tmp_path / "out.jsonl").read_bytes()
    assert out.endswith(b"\n") or not out
    return code, [json.loads(line) for line in out.decode().split("\n")[:-1]]


def test_answers_come_in_order_with_their_ids(folders, tmp_path):
    rows = [
        {"id": f"n{i}", "text": "好" * (i % 29 + 1)} if i % 3 else {"text": "坏" * (i % 29 + 1)}
        for i in range(100)
    ]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    code, answers = answered(folders["classify"], lines, tmp_path, batch=17)
    assert code == 0
    direct = load_predictor(folders["classify"])(rows)
    for row, answer, expected in zip(rows, answers, direct, strict=True):
        assert answer.get("id") == row.get("id")
        assert list(answer) == (["id"] if "id" in row else []) + ["label", "score"]
        assert answer["label"] == expected["label"]
        assert answer["score"] == pytest.approx(expected["score"], abs=2e-6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"{not json", "not JSON"),
        (b'{"text": "\xff\xfe"}', "not UTF-8"),
        (b"[1, 2]", "an object was wanted, found list"),
        (b'"text"', "an object was wanted, found str"),
        (b'{"id": 3}', "no 'text' in it"),
        (b'{"id": 3, "text": 5}', "must be text"),
        (b'{"id": 3, "text": ""}', "empty"),
        (b'{"text": "a", "id": NaN}', "NaN is no JSON number"),
        (b"[" * 100_000, "not usable JSON"),
    ],
)
def test_a_bad_line_keeps_its_place_and_says_why(folders, tmp_path, line, message):
    good = json.dumps(GOOD).encode()
    code, answers = answered(folders["classify"], [good, line, good], tmp_path)
    assert code == 1
    assert [answer.get("id") for answer in answers] == [7, 3 if b'"id": 3' in line else None, 7]
    assert message in answers[1]["error"].replace("a JSON object", "an object")
    assert answers[0] == answers[2]
    assert "error" not in answers[0]


@settings(deadline=None, max_examples=40)
@given(
    lines=st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=12),
    batch=st.integers(1, 5),
)
def test_any_bytes_give_as_many_lines_out_as_in(folders, lines, batch, tmp_path_factory):
    _, answers = answered(folders["classify"], lines, tmp_path_factory.mktemp("any"), batch=batch)
    assert len(answers) == len(lines)
    assert all("error" in answer or "label" in answer for answer in answers)


def test_a_last_line_without_a_line_end_counts_and_odd_separators_do_not_cut(folders, tmp_path):
    (tmp_path / "in.jsonl").write_bytes('{"text": "好\u2028坏\u0085"}\r\n{"text": "坏"}'.encode())
    assert predict_stream(folders["classify"], str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_a_lone_surrogate_in_text_or_id_still_gives_a_line(folders, tmp_path):
    lines = [b'{"id": "\\ud800", "text": "\\ud800\xe5\x8c\x97\xe4\xba\xac"}']
    code, answers = answered(folders["tag"], lines, tmp_path)
    assert code == 0
    assert answers[0]["id"] == "\ud800"
    assert answers[0]["entities"][0]["text"] == "北京"


def test_gzip_in_and_out(folders, tmp_path):
    with gzip.open(tmp_path / "in.jsonl.gz", "wb") as file:
        file.write((json.dumps(GOOD) + "\n").encode() * 3)
    paths = [str(tmp_path / name) for name in ("in.jsonl.gz", "out.jsonl.GZ")]
    assert predict_stream(folders["classify"], *paths) == 0
    with gzip.open(paths[1]) as file:
        assert len(file.readlines()) == 3


def test_a_broken_gzip_file_is_named_and_leaves_no_output(folders, tmp_path):
    whole = gzip.compress((json.dumps(GOOD) + "\n").encode() * 2000)
    (tmp_path / "in.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"in\.jsonl\.gz: not a whole gzip file"):
        predict_stream(folders["classify"], str(tmp_path / "in.jsonl.gz"), str(tmp_path / "out.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl.gz"]


def test_a_failure_leaves_the_old_output(folders, tmp_path, monkeypatch):
    (tmp_path / "in.jsonl").write_text('{"text": "好"}\n')
    (tmp_path / "out.jsonl").write_text("old")
    monkeypatch.setattr(stream, "_answer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_stream(folders["classify"], str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_read_or_written_is_named(folders, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.jsonl: no such file"):
        predict_stream(folders["classify"], str(tmp_path / "nothing.jsonl"), "-")
    with pytest.raises(DataError, match="a folder"):
        predict_stream(folders["classify"], str(tmp_path), "-")
    (tmp_path / "in.jsonl").write_text("")
    with pytest.raises(DiskError, match="cannot write"):
        predict_stream(folders["classify"], str(tmp_path / "in.jsonl"), str(tmp_path / "no" / "out.jsonl"))
    with pytest.raises(ModelError):
        predict_stream(tmp_path / "no-model", "-", "-")


def test_an_input_without_lines_is_told(folders, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text("")
    assert predict_stream(folders["classify"], str(tmp_path / "in.jsonl"), "-") == 0
    assert (
        capsys.readouterr().err == f"{tmp_path / 'in.jsonl'}: no line in it, so there is nothing to answer\n"
    )


def test_batches_of_no_lines_are_refused_instead_of_answering_nothing(tmp_path):
    with pytest.raises(UsageError, match="--batch 0"):
        predict_stream(tmp_path / "any", "-", "-", batch=0)


def test_memory_stays_flat(folders, tmp_path, monkeypatch):
    """Never more than a batch of lines is held: checked on an input that counts how far ahead it was read."""
    taken, answered_so_far = 0, 0

    def lines():
        nonlocal taken
        for _ in range(1000):
            taken += 1
            assert taken - answered_so_far <= 10
            yield b'{"text": "x"}\n'

    class Sink(io.BytesIO):
        def write(self, data):
            nonlocal answered_so_far
            answered_so_far += data.count(b"\n")
            return len(data)

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=lines()))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=Sink()))
    assert predict_stream(folders["classify"], "-", "-", batch=10) == 0
    assert answered_so_far == 1000


def test_as_a_pipe_that_its_reader_leaves(folders):
    """`fenghuo predict … | head -1` ends without a traceback."""
    model = str(folders["classify"])
    code = f"from fenghuo.serve.stream import predict_stream as p; raise SystemExit(p({model!r}, batch=1))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b'{"text": "x"}\n')
        process.stdin.flush()
        assert b'"label"' in process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b'{"text": "x"}\n' * 10)
        process.stdin.close()
        errors = process.stderr.read()
        assert process.wait(30) == 1
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors
