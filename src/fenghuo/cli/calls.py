"""The verbs without a recipe, a function each: its arguments are the flags, its docstring their help.

What does the work is imported when it is asked for, so that `--help` needs none of it.
"""

from __future__ import annotations

import json as json_text
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from fenghuo.errors import UsageError
from fenghuo.progress import say


def load(place: str) -> Any:
    """`module:name` → the thing itself."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def demo(*, out: Path = Path("fenghuo-demo"), scale: Literal["small", "full"] = "small") -> None:
    """
    Args:
        out: Folder for data, runs, report and ledger.
        scale: small takes minutes on two cores; full takes hours, and makes the figures worth reading.
    """
    ledger_of, render = load("fenghuo.report.ledger:ledger"), load("fenghuo.report.ledger:render")
    tellers = load("fenghuo.demo.way:Tellers")(
        compare=load("fenghuo.study.statistics:compare"),
        table=lambda runs: render(ledger_of(runs)),
        write_report=load("fenghuo.report.page:write_report"),
        write_page=load("fenghuo.report.page:write_page"),
    )
    load("fenghuo.demo.way:run")(out, scale, tellers)


def vocab_train(
    *,
    input: Annotated[list[str], Parameter(required=True, negative=())],
    out: Path,
    text_key: str = "text",
    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece",
    size: int = 21128,
    lowercase: Annotated[bool | None, Parameter(negative="--keep-case")] = None,
    min_frequency: int = 2,
) -> None:
    """
    Args:
        input: Text to learn from: file, folder or glob. May be given several times.
        out: Tokenizer folder to make.
        text_key: Key (jsonl) or column (parquet) that holds a document.
        kind: wordpiece as BERT has it; bpe over bytes, as RoBERTa has it; unigram as ALBERT has it.
        size: Pieces at most, special ones counted.
        lowercase: Fold case and strip accents; absent: yes, but not with bpe, which keeps case.
        min_frequency: A piece that occurs less often is left out.
    """
    load("fenghuo.corpus.vocabulary:train")(
        input,
        out,
        text_key=text_key,
        kind=kind,
        size=size,
        lowercase=lowercase,
        min_frequency=min_frequency,
    )


def vocab_prune(
    model: Path,
    *,
    input: Annotated[list[str], Parameter(required=True, negative=())],
    out: Path,
    text_key: str = "text",
    size: int | None = None,
    min_frequency: int = 1,
    keep: Path | None = None,
    keep_characters: bool = False,
) -> None:
    """
    Args:
        model: Model folder or run folder.
        input: Text that the model will read: file, folder or glob. May be given several times.
        out: Model folder to make.
        text_key: Key (jsonl) or column (parquet) that holds a document.
        size: Pieces at most, the most frequent ones; absent: all that the text uses.
        min_frequency: A piece that occurs less often goes.
        keep: File of pieces that stay whatever the text holds, one a line.
        keep_characters: All single characters stay, so that text unlike this one is not unknown.
    """
    report = load("fenghuo.compress.vocabulary:prune")(
        model,
        input,
        out,
        text_key=text_key,
        size=size,
        min_frequency=min_frequency,
        keep=keep,
        keep_characters=keep_characters,
    )
    for line in report.lines():
        print(line)
    say(f"{out}: written")


def convert(
    source: Path,
    *,
    out: Path | None = None,
    to: Literal["huggingface", "tensorflow", "paddle"] = "huggingface",
    inspect: bool = False,
    overwrite: bool = False,
) -> None:
    """
    Args:
        source: Folder, prefix of a TensorFlow checkpoint, file of weights, or archive (zip, tar).
        out: Folder to make.
        to: Whose files to write.
        inspect: List every tensor and write nothing.
        overwrite: Replace a folder that is there.
    """
    if (out is None) != inspect:
        raise UsageError("--out says where to; --inspect writes nothing: give one of them")
    report = load("fenghuo.models.convert:convert")(source, out, to=to, overwrite=overwrite)
    for line in report.lines(shapes=inspect):
        print(line)
    if out is not None:
        say(f"{out}: written for {to}")


def export(model: Path, *, format: Literal["onnx"] = "onnx", out: Path | None = None) -> None:
    """
    Args:
        model: Model folder or run folder.
        format: What to make.
        out: Folder to put it into; absent: into the model folder, where the service looks.
    """
    load("fenghuo.compress.export:export")(model, format, out)


def evaluate(
    model: Path,
    *,
    data: Path,
    task: str | None = None,
    format: Annotated[
        Literal["auto", "tsv", "csv", "jsonl", "conll"] | None, Parameter(name="--data.format")
    ] = None,
    text: Annotated[str | None, Parameter(name="--data.text")] = None,
    text_pair: Annotated[str | None, Parameter(name="--data.text_pair")] = None,
    label: Annotated[str | None, Parameter(name="--data.label")] = None,
    columns: Annotated[list[str] | None, Parameter(name="--data.columns")] = None,
    skip_label: Annotated[str | None, Parameter(name="--data.skip_label")] = None,
    json: bool = False,
) -> None:
    """
    Args:
        model: Model folder or run folder.
        data: Labelled rows.
        task: A kind (classify, pair, tag) or a data set's name; absent: what the model folder remembers.
        format: How the file is laid out, as in a recipe; absent: by the file's name.
        text: Column (or JSON key) of the text; absent: text.
        text_pair: Column of the second text of a pair; absent: text_pair.
        label: Column of the label; absent: label.
        columns: Names of the columns, for a file without a header.
        skip_label: Rows with this label are left out.
        json: Print one JSON object.
    """
    given: dict[str, Any] = {"format": format, "text": text, "text_pair": text_pair, "label": label}
    given |= {"columns": columns, "skip_label": skip_label}
    layout = {key: value for key, value in given.items() if value is not None}
    result = load("fenghuo.report.evaluate:evaluate")(model, data, task, layout)
    if json:
        print(json_text.dumps(result, ensure_ascii=False))
        return
    print(f"{result['task']}, {result['examples']} examples")
    for name, value in result["metrics"].items():
        print(f"{name:<16} {value:.4f}")


def predict(
    model: Path, *, input: str = "-", output: str = "-", all_scores: bool = False, batch: int = 256
) -> int:
    """
    Args:
        model: Model folder or run folder.
        input: JSON lines with `text` (and `text_pair`), or `tokens`; - is stdin.
        output: One JSON line for each line of input; - is stdout.
        all_scores: Give every class with its score.
        batch: Lines read at once.
    """
    code: int = load("fenghuo.serve.stream:predict_stream")(model, input, output, all_scores, batch)
    return code


def serve(
    model: Annotated[Path, Parameter(env_var="FENGHUO_MODEL")],
    *,
    host: Annotated[str, Parameter(env_var="FENGHUO_HOST")] = "127.0.0.1",
    port: Annotated[int, Parameter(env_var="FENGHUO_PORT")] = 8000,
    threads: Annotated[int | None, Parameter(env_var="FENGHUO_THREADS")] = None,
    max_batch_tokens: Annotated[int, Parameter(env_var="FENGHUO_MAX_BATCH_TOKENS")] = 2048,
    max_queue: Annotated[int, Parameter(env_var="FENGHUO_MAX_QUEUE")] = 512,
    api_key: Annotated[str | None, Parameter(env_var="FENGHUO_API_KEY")] = None,
) -> None:
    """
    Args:
        model: Model folder or run folder.
        host: Address to listen on; 0.0.0.0 is every one.
        port: Port to listen on; 0 takes any free one.
        threads: Of one batch; absent: the cores this process may use.
        max_batch_tokens: Largest batch in pieces, padding included.
        max_queue: Sequences that may wait; more get 429.
        api_key: Asked for by every route but the pages and the health probes. Better by environment: `ps`
            shows flags.
    """
    load("fenghuo.serve.server:serve")(
        model,
        host=host,
        port=port,
        threads=threads,
        max_batch_tokens=max_batch_tokens,
        max_queue=max_queue,
        api_key=api_key,
    )


def report(runs: Annotated[list[Path], Parameter(negative=())], *, out: Path = Path("report.html")) -> None:
    """
    Args:
        runs: Run folders.
        out: HTML file to make; it needs no other file and no network.
    """
    load("fenghuo.report.page:write_report")(runs, out)
    say(f"{out}: {len(runs)} run{'s' if len(runs) > 1 else ''} on one page")


def ledger(
    runs: Annotated[list[Path], Parameter(negative=())], *, max_drop: float | None = None, json: bool = False
) -> None:
    """
    Args:
        runs: Run folders.
        max_drop: Points. Exit with code 3 where a run's main metric lies further below its teacher's.
        json: Print a JSON list.
    """
    rows = load("fenghuo.report.ledger:ledger")(runs)
    print(load(f"fenghuo.report.ledger:{'to_json' if json else 'render'}")(rows))
    if max_drop is not None:
        load("fenghuo.report.ledger:gate")(rows, max_drop)
