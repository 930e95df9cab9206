"""The table of verbs: what each is called, what it says of itself, and where its work is done.

A verb with a recipe names the recipe's class and the stage's function; any other verb is one call. Both are
imported when they are asked for, so that `--help` needs none of them.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from fenghuo.errors import UsageError
from fenghuo.progress import say


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A verb with a recipe. The module of `run` has `plan(recipe) -> str` too, for `--dry-run`."""

    recipe: str
    """`module:class`"""
    run: str
    """`module:run`"""
    help: str
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A verb without a recipe."""

    function: Callable[..., int | None]
    help: str
    examples: tuple[str, ...]


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
    size: int = 21128,
    lowercase: Annotated[bool, Parameter(negative="--keep-case")] = True,
    min_frequency: int = 2,
) -> None:
    """
    Args:
        input: Text to learn from: file, folder or glob. May be given several times.
        out: Tokenizer folder to make.
        size: Pieces, special ones counted.
        lowercase: Fold case and strip accents.
        min_frequency: A piece that occurs less often is left out.
    """
    load("fenghuo.corpus.vocabulary:train")(
        input, out, size=size, lowercase=lowercase, min_frequency=min_frequency
    )


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


STAGES: dict[str, Stage] = {
    "corpus": Stage(
        recipe="fenghuo.corpus.recipe:CorpusRecipe",
        run="fenghuo.corpus.build:run",
        help="Raw text (txt, jsonl, parquet) to cleaned, deduplicated shards of pieces.",
        examples=(
            "fenghuo corpus --print-recipe > corpus.yaml",
            "fenghuo corpus corpus.yaml --out runs/corpus",
        ),
    ),
    "pretrain": Stage(
        recipe="fenghuo.pretrain.recipe:PretrainRecipe",
        run="fenghuo.pretrain.run:run",
        help="Shards to a pretrained encoder.",
        examples=(
            "fenghuo pretrain pretrain.yaml --out runs/pretrain --dry-run",
            "fenghuo pretrain pretrain.yaml --out runs/pretrain --train.steps 1000",
        ),
    ),
    "finetune": Stage(
        recipe="fenghuo.finetune.recipe:FinetuneRecipe",
        run="fenghuo.finetune.run:run",
        help="Labelled rows and an encoder to a model of a task.",
        examples=(
            "fenghuo finetune finetune.yaml --out runs/teacher",
            "fenghuo finetune finetune.yaml --out runs/seed-1 --seed 1",
        ),
    ),
    "augment": Stage(
        recipe="fenghuo.compress.recipe:AugmentRecipe",
        run="fenghuo.compress.augment:run",
        help="Labelled rows to more rows, with words replaced by likely ones.",
        examples=("fenghuo augment augment.yaml --out runs/augmented",),
    ),
    "distill": Stage(
        recipe="fenghuo.compress.recipe:DistillRecipe",
        run="fenghuo.compress.distill:run",
        help="A teacher to a smaller student, on raw text or on a task.",
        examples=(
            "fenghuo distill general.yaml --out runs/general --stage general",
            "fenghuo distill task.yaml --out runs/student --stage task",
        ),
    ),
    "quantize": Stage(
        recipe="fenghuo.compress.recipe:QuantizeRecipe",
        run="fenghuo.compress.quantize:run",
        help="A model to int8, with what it costs in quality.",
        examples=("fenghuo quantize quantize.yaml --out runs/int8",),
    ),
}

PLAIN: dict[str, Plain] = {
    "demo": Plain(
        function=demo,
        help="The whole way, from raw text to a small service, on real text that ships with a package.",
        examples=("fenghuo demo", "fenghuo demo --out /tmp/way --scale full"),
    ),
    "convert": Plain(
        function=convert,
        help="Released weights (TensorFlow, Paddle, PyTorch) to a model folder, and back, with a load report.",
        examples=(
            "fenghuo convert chinese_L-12_H-768_A-12.zip --out bert-base-chinese",
            "fenghuo convert nezha/model.ckpt-691689 --inspect",
            "fenghuo convert runs/student/model --to tensorflow --out student-tf",
        ),
    ),
    "export": Plain(
        function=export,
        help="A model to ONNX.",
        examples=("fenghuo export runs/student/model",),
    ),
    "evaluate": Plain(
        function=evaluate,
        help="A model's figures on labelled rows.",
        examples=(
            "fenghuo evaluate runs/student/model --data test.tsv --json",
            "fenghuo evaluate runs/student --data test.csv --data.text review",
        ),
    ),
    "predict": Plain(
        function=predict,
        help="A model's answer to each line of text.",
        examples=("""echo '{"text": "服务很好"}' | fenghuo predict runs/student/model""",),
    ),
    "serve": Plain(
        function=serve,
        help="A model over HTTP, without torch.",
        examples=("fenghuo serve runs/student/model --port 8080 --threads 2",),
    ),
    "report": Plain(
        function=report,
        help="Runs to one HTML page.",
        examples=("fenghuo report runs/* --out report.html",),
    ),
    "ledger": Plain(
        function=ledger,
        help="What each step cost and what it kept, and a gate for it.",
        examples=("fenghuo ledger runs/teacher runs/student runs/int8 --max-drop 1",),
    ),
}

SUBVERBS: dict[str, tuple[str, dict[str, Plain]]] = {
    "vocab": (
        "A vocabulary from text.",
        {
            "train": Plain(
                function=vocab_train,
                help="Learn a WordPiece vocabulary in which each Chinese character is a piece.",
                examples=("fenghuo vocab train --input text/ --size 21128 --out vocab",),
            )
        },
    )
}
