"""Model folders whose random weights are large enough for answers to differ from text to text."""

from __future__ import annotations

from pathlib import Path

from fenghuo.models.folder import build, save_model
from fenghuo.net.config import HeadsConfig
from fenghuo.text.tokenizer import Tokenizer

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可",
]
CLASSES = ["negative", "neutral", "positive"]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
SHAPE = {"layers": 2, "width": 48, "heads": 4, "inner_width": 96, "initializer_range": 0.25}


def make_model(
    folder: Path, *, family: str = "nezha", task: str | None = "classify", max_length: int = 80
) -> Path:
    """A folder as fine-tuning leaves it; `task=None` is an encoder without a head."""
    labels = TAGS if task == "tag" else CLASSES
    heads = HeadsConfig(task=task, outputs=len(labels) if task else 0, pooler=task != "tag")
    model = build(None, family=family, values=SHAPE, vocab=len(PIECES), heads=heads, seed=3)
    metric = "f1" if task == "tag" else "accuracy"
    block = {"kind": task, "labels": labels, "metric": metric, "max_length": max_length}
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    save_model(model, folder, extra={"labels": labels, "fenghuo": {"task": block}} if task else None)
    Tokenizer.load(folder).save(folder)
    return folder
