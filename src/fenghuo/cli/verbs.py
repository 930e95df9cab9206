"""The table of verbs: what each is called, what it says of itself, and where its work is done.

A verb with a recipe names the recipe's class and the stage's function; any other verb is one call (calls.py). Both are
imported when they are asked for, so that `--help` needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fenghuo.cli.calls import (
    convert,
    demo,
    evaluate,
    export,
    ledger,
    predict,
    report,
    serve,
    vocab_prune,
    vocab_train,
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A verb with a recipe. The module of `run` has `plan(recipe) -> str` too, for `--dry-run`."""

    recipe: str
    """`module:class`"""
    run: str
    """`module:run`"""
    help: str
    examples: tuple[str, ...]
    spreads: bool = False
    """Whether torchrun may run it in several processes."""


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A verb without a recipe."""

    function: Callable[..., int | None]
    help: str
    examples: tuple[str, ...]


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
            "torchrun --nproc-per-node 4 -m fenghuo pretrain pretrain.yaml --out runs/pretrain",
        ),
        spreads=True,
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
        "A vocabulary from text, or a smaller one, and the model cut to fit it.",
        {
            "train": Plain(
                function=vocab_train,
                help="Learn a vocabulary from text, Chinese first: WordPiece, byte pairs over bytes, or unigram.",
                examples=(
                    "fenghuo vocab train --input text/ --size 21128 --out vocab",
                    "fenghuo vocab train --input text/ --kind bpe --size 32000 --out vocab-bytes",
                ),
            ),
            "prune": Plain(
                function=vocab_prune,
                help="Leave out the pieces that some text does not use, and their rows of the model's tables.",
                examples=(
                    "fenghuo vocab prune runs/student --input reviews.txt --out student-small",
                    "fenghuo vocab prune bert-base-chinese --input text/ --keep-characters --size 12000 --out small",
                ),
            ),
        },
    )
}
