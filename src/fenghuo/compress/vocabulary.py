"""`fenghuo vocab prune`: a model and some text → the model with the pieces that the text uses, and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fenghuo import __version__
from fenghuo.corpus.read import read_documents
from fenghuo.corpus.recipe import InputRecipe
from fenghuo.errors import DataError, ModelError, UsageError
from fenghuo.models.cut import bound_pieces, cut_vocabulary
from fenghuo.models.folder import load_with_report, save_model
from fenghuo.models.start import model_folder, weights_file
from fenghuo.net.model import Model
from fenghuo.progress import say, track
from fenghuo.rundir import folder_atomic, refuse_filled, write_atomic, write_json
from fenghuo.text.pruning import PieceUse, kept_pieces, prune_tokenizer
from fenghuo.text.tokenizer import Tokenizer

_TOGETHER = 256  # texts
REPORT = "pruning.json"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a vocabulary costs."""

    pieces: int
    bytes: int
    """Of the file of weights."""
    parameters: int
    table_share: float
    """Of the parameters, those in the word table."""
    unknown_share: float
    """Of the text's pieces, those that are [UNK]."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was cut, and what it changed."""

    model: str
    documents: int
    same: int
    """Documents that both tokenizers cut into the same pieces."""
    before: Size
    after: Size

    def lines(self) -> Iterator[str]:
        """The report as text."""
        a, b = self.before, self.after
        yield f"{self.model}: {'before':>14} {'after':>14}"
        for title, form, x, y in (
            ("pieces", ",", a.pieces, b.pieces),
            ("parameters", ",", a.parameters, b.parameters),
            ("bytes", ",", a.bytes, b.bytes),
            ("word table", ".1%", a.table_share, b.table_share),
            ("unknown pieces", ".3%", a.unknown_share, b.unknown_share),
        ):
            yield f"  {title:<16} {x:>14{form}} {y:>14{form}}"
        yield f"  {self.same:,} of {self.documents:,} documents are cut into the same pieces"


def prune(
    model: Path,
    input: Sequence[str],
    out: Path,
    *,
    text_key: str = "text",
    size: int | None = None,
    min_frequency: int = 1,
    keep: Path | None = None,
    keep_characters: bool = False,
) -> Pruned:
    """Cut a model's vocabulary down to what some text uses; a text cut into kept pieces alone gets the same outputs.

    Args:
        model: a model folder, or a run's.
        input: files, folders or globs, as a corpus recipe takes them; read twice.
        out: folder to make, absent or empty.
        text_key: key (jsonl) or column (parquet) that holds a document.
        size: pieces at most, the most frequent first; None: all that are used.
        min_frequency: a piece that occurs less often goes.
        keep: a file of pieces that stay, one a line.
        keep_characters: all single characters stay.

    Raises:
        RunError: there is something in `out`.
        UsageError: `size` is too small, or a line of `keep` is no piece.
        DataError: the input cannot be read, or has no text.
        ModelError: no model, no tokenizer, or one of another kind or size.
    """
    refuse_filled(out)
    folder = model_folder(model)
    tokenizer = Tokenizer.load(folder)
    whole, loaded = load_with_report(folder)
    if tokenizer.vocabulary.size > whole.config.vocab:
        raise ModelError(
            f"{folder}: {tokenizer.vocabulary.size:,} pieces for {whole.config.vocab:,} rows of the word table"
        )
    asked = bound_pieces(whole) + ([] if keep is None else _listed(keep, tokenizer))
    asked = [piece for piece in asked if piece < tokenizer.vocabulary.size]
    given = [InputRecipe(path=one, text_key=text_key) for one in input]
    use = PieceUse(tokenizer)
    documents = sum(len(use.add(texts)) for texts in _texts(given, "counting pieces"))
    if not use.counts.any():
        raise DataError("no text to tell used pieces by")
    kept = kept_pieces(
        tokenizer,
        use.counts,
        always=asked,
        characters=keep_characters,
        min_frequency=min_frequency,
        size=size,
    )
    smaller = prune_tokenizer(tokenizer, kept)
    cut = cut_vocabulary(whole, torch.from_numpy(kept))
    same, unknown, pieces = _compare(tokenizer, smaller, kept, given)
    with folder_atomic(out) as new:
        save_model(cut, new)
        smaller.save(new)
        report = Pruned(
            model=folder.parent.name if folder.name == "model" else folder.name,
            documents=documents,
            same=same,
            before=_size(
                whole, len(tokenizer.pieces()), weights_file(folder), use.unknown / max(pieces[0], 1)
            ),
            after=_size(cut, len(kept), weights_file(new), unknown / max(pieces[1], 1)),
        )
        write_json(new / REPORT, asdict(report))
        write_atomic(new / "README.md", _card(report))
    _say_what_is_left_behind(folder, loaded.unexpected)
    return report


def _texts(given: Sequence[InputRecipe], title: str) -> Iterator[list[str]]:
    documents = read_documents(given)
    with track(title, None, "documents") as progress:
        while texts := [document.text for document in islice(documents, _TOGETHER)]:
            progress.advance(len(texts))
            yield texts


def _compare(
    before: Tokenizer, after: Tokenizer, kept: Any, given: Sequence[InputRecipe]
) -> tuple[int, int, tuple[int, int]]:
    """Documents cut alike, [UNK]s after, and pieces before and after."""
    same, pieces = 0, [0, 0]
    use = PieceUse(after)
    for texts in _texts(given, "checking"):
        for old, new in zip(before.encode_batch(texts), use.add(texts), strict=True):
            same += bool(np.array_equal(old.ids, kept[new]))
            pieces[0] += len(old)
            pieces[1] += len(new)
    return same, use.unknown, (pieces[0], pieces[1])


def _listed(path: Path, tokenizer: Tokenizer) -> list[int]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"--keep {path}: not readable ({problem})") from problem
    ids = {piece: number for number, piece in enumerate(tokenizer.pieces())}
    for number, line in enumerate(lines, start=1):
        if line and line not in ids:
            raise UsageError(f"--keep {path}:{number}: {line!r} is no piece of the model's tokenizer")
    return [ids[line] for line in lines if line]


def _size(model: Model, pieces: int, weights: Path, unknown_share: float) -> Size:
    table = sum(x.numel() for n, x in model.named_parameters() if n.startswith("encoder.embed.tables.words."))
    total = sum(x.numel() for x in model.parameters())
    return Size(
        pieces=pieces,
        bytes=weights.stat().st_size,
        parameters=total,
        table_share=table / total,
        unknown_share=unknown_share,
    )


def _card(report: Pruned) -> str:
    """README.md of the new folder; it is published, so it names no path."""
    return "\n".join(
        [
            *(
                "---",
                "library_name: fenghuo",
                "tags: [fenghuo]",
                "---",
                f"# {report.model}, fewer pieces",
                "",
            ),
            f"Made by fenghuo {__version__} (`fenghuo vocab prune`). It answers a text that is cut into kept pieces as "
            "the model it was made of does; other text is cut into smaller pieces, or is unknown.",
            *("", "```", *report.lines(), "```", ""),
        ]
    )


def _say_what_is_left_behind(folder: Path, unexpected: Sequence[str]) -> None:
    made = sorted(path.relative_to(folder).as_posix() for path in folder.glob("onnx/*.onnx"))
    if made:
        say(
            f"{', '.join(made)}: not taken along, since made of the old table; `fenghuo export` makes new ones"
        )
    if unexpected:
        names = ", ".join(unexpected[:3]) + (", …" if len(unexpected) > 3 else "")
        say(f"not taken along, since nothing here reads it: {names}")
