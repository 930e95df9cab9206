"""`fenghuo predict`: lines of JSON in, one line of JSON out for each, in order, in flat memory."""

from __future__ import annotations

import gzip
import os
import secrets
import sys
import zlib
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from fenghuo.errors import DataError, UsageError
from fenghuo.progress import say, track
from fenghuo.rundir.atomic import disk_error
from fenghuo.serve.predictor import Predictor, Question, load_predictor
from fenghuo.serve.rows import parse_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator


def predict_stream(
    model: str | Path,
    input: str = "-",
    output: str = "-",
    all_scores: bool = False,
    batch: int = 256,
    *,
    backend: Literal["auto", "int8", "onnx", "torch"] = "auto",
    threads: int | None = None,
) -> int:
    """Answer every line of `input`.

    Args:
        model: a model folder that was fine-tuned.
        input, output: JSONL files, `.gz` by suffix; `-` is stdin or stdout. The output appears when whole.
        all_scores: every class with its probability.
        batch: lines read at once.

    Returns:
        The exit code: 0, or 1 where a line was not usable. Its place has `{"id"?, "error"}`.

    Raises:
        DataError: the input cannot be read.
        UsageError: a batch of no lines.
    """
    if batch < 1:
        raise UsageError(f"--batch {batch}: at least 1 line is read at once")
    predictor = load_predictor(model, backend=backend, threads=threads)
    bad = cut = 0
    try:
        with _reading(input) as source, _writing(output) as sink, track("predict", None, "lines") as progress:
            while lines := list(islice(source, batch)):
                answers, cut_here = _answer(predictor, lines, all_scores)
                sink.write(b"".join(to_json(answer) + b"\n" for answer in answers))
                sink.flush()
                bad += sum("error" in answer for answer in answers)
                cut += cut_here
                progress.advance(len(lines))
            read = progress.done
    except (
        BrokenPipeError
    ):  # the reader, `head` perhaps, has enough; Python's own last flush must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if not read:
        say(f"{'stdin' if input == '-' else input}: no line in it, so there is nothing to answer")
    if cut:
        say(f"{cut} texts were longer than {predictor.task.max_length} pieces; their ends were not read")
    if bad:
        say(f"{bad} lines were not usable; each has its 'error' in the output")
    return 1 if bad else 0


def _answer(predictor: Predictor, lines: list[bytes], all_scores: bool) -> tuple[list[dict[str, Any]], int]:
    answers: list[dict[str, Any]] = []
    questions: list[Question] = []
    places: list[int] = []
    for place, line in enumerate(lines):
        answers.append({})
        try:
            row = _parse(line)
            if "id" in row:
                answers[place]["id"] = row["id"]
            questions.append(predictor.ask(row))
            places.append(place)
        except DataError as problem:
            answers[place]["error"] = str(problem)
    for place, answer in zip(places, predictor.answers(questions, all_scores=all_scores), strict=True):
        answers[place].update(answer)
    return answers, sum(question.cut for question in questions)


def _parse(line: bytes) -> dict[str, Any]:
    if not line.strip():
        raise DataError("the line is empty")
    row = parse_json(line)
    if not isinstance(row, dict):
        raise DataError(f"a JSON object was wanted, found {type(row).__name__}")
    return row


@contextmanager
def _reading(name: str) -> Iterator[Iterator[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    path = Path(name)
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield _told(path, cast("BinaryIO", file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a file of JSON lines was wanted") from None


def _told(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise DataError(f"{path}: not a whole gzip file ({problem})") from None


@contextmanager
def _writing(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdout.buffer
        return
    path = Path(name)
    beside = path.parent / f".{path.name}.writing-{secrets.token_hex(4)}"  # the pattern `rundir` sweeps
    try:
        with beside.open("xb") as raw:
            if path.suffix.lower() == ".gz":
                with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(beside, path)
    except OSError as problem:
        raise disk_error(path, problem) from problem
    finally:
        beside.unlink(missing_ok=True)
