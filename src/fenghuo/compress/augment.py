"""New texts from labelled ones, for a teacher to label: TinyBERT's augmentation, made to work for Chinese words.

Source: TinyBERT (arXiv 1909.10351), algorithm 1. Its code replaces Latin words only; put to Chinese it would
swap single characters and yield no words. Here the unit is the segmenter's word, all its pieces are hidden
together, and the only candidates are words seen in real text that have as many pieces, scored by the sum of
their pieces' log-probabilities. A candidate is drawn in proportion to its probability, where TinyBERT draws evenly.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fenghuo.compress.recipe import AugmentRecipe
from fenghuo.corpus.loader import collate
from fenghuo.corpus.read import read_documents
from fenghuo.errors import ModelError, RecipeError
from fenghuo.models.folder import load_model
from fenghuo.models.start import model_folder, weights_file
from fenghuo.net.model import Model
from fenghuo.progress import track
from fenghuo.rundir import RunDir, write_atomic
from fenghuo.tasks.read_data import Row, read_rows
from fenghuo.text.tokenizer import Pieces, Tokenizer, Vocabulary, enclose
from fenghuo.text.words import Segmenter, load_segmenter
from fenghuo.training.loop import to_tensors

LONGEST_WORD = 4
"""Pieces of a word that may be replaced; longer ones are names and numbers, mostly."""
CHUNK_ROWS = 64
"""Rows whose hidden words go through the model together, and the grain of resuming."""
BATCH_PIECES = 16384


@dataclass(frozen=True, slots=True)
class Word:
    """A replaceable word of one text."""

    start: int
    """Characters."""
    end: int
    first: int
    """Pieces."""
    stop: int


class Lexicon:
    """Words seen in real text, by their number of pieces."""

    def __init__(self, counts: Counter[str], tokenizer: Tokenizer) -> None:
        words = sorted(word for word in counts if replaceable(word))
        by_pieces: dict[int, list[tuple[str, NDArray[np.int64]]]] = {}
        for word, pieces in zip(words, tokenizer.encode_batch(words), strict=True):
            if 1 <= len(pieces.ids) <= LONGEST_WORD and tokenizer.vocabulary.unk not in pieces.ids:
                by_pieces.setdefault(len(pieces.ids), []).append((word, pieces.ids))
        self.words = {n: [word for word, _ in found] for n, found in by_pieces.items()}
        self.pieces = {
            n: torch.from_numpy(np.stack([ids for _, ids in found])) for n, found in by_pieces.items()
        }

    def best(self, log_probs_kV: torch.Tensor, number: int) -> list[tuple[str, float]]:
        """The `number` likeliest words of k pieces with their log-probabilities, likeliest first."""
        k = log_probs_kV.shape[0]
        if k not in self.words:
            return []
        score_W = log_probs_kV.gather(1, self.pieces[k].T).sum(0)
        top = score_W.topk(min(number, len(score_W)))
        return [(self.words[k][int(i)], float(s)) for s, i in zip(top.values, top.indices, strict=True)]


def replaceable(word: str) -> bool:
    """Whether a word may be replaced or put in: letters (Chinese characters are letters), no digits or marks."""
    return word.isalpha()


def run(recipe: AugmentRecipe, run: RunDir) -> None:
    """Augment `data.train` into `augmented.jsonl`; a run that was cut off goes on after its last whole chunk."""
    task, data = recipe.task, recipe.data
    if data.train is None:
        raise RecipeError("data.train is missing: the rows to augment")
    tokenizer = Tokenizer.load(model_folder(recipe.model))
    model = load_model(model_folder(recipe.model))
    if model.mlm is None:
        raise ModelError(f"{recipe.model}: no MLM head in it; augmentation needs a pretrained model")
    segmenter = load_segmenter(recipe.segmenter)
    rows = read_rows(data.train, data, kind=task.kind, labelled=False)
    lexicon = [("data", Path(path)) for path in recipe.lexicon]
    run.environment(
        seed=recipe.seed, inputs=[("model", weights_file(recipe.model)), ("data", data.train), *lexicon]
    )
    texts = _texts(rows)
    words = Lexicon(count_words(_all_texts(texts, recipe.lexicon), segmenter), tokenizer)
    work = run.path / "work"
    work.mkdir(exist_ok=True)
    parts = []
    with track("augment", len(rows), "row") as bar, torch.inference_mode():
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            part = work / f"part-{start:09d}.jsonl"
            if not part.exists():
                replacements = Replacements(model, tokenizer, segmenter, words, recipe)
                replacements.add(_texts(chunk))
                lines = [
                    json.dumps(record, ensure_ascii=False)
                    for number, row in enumerate(chunk, start)
                    for record in augment_row(row, number, replacements, recipe)
                ]
                write_atomic(part, "".join(line + "\n" for line in lines))
            parts.append(part)
            bar.advance(len(chunk))
    file = run.path / "augmented.jsonl"
    written = _join(parts, file)
    run.log(f"{file}: {written:,} new rows from {len(rows):,}")
    run.finish(
        {
            "role": "augmented",
            "task": "augment",
            "rows": len(rows),
            "written": written,
            "lexicon_words": sum(len(known) for known in words.words.values()),
            "file": "augmented.jsonl",
        }
    )
    shutil.rmtree(work, ignore_errors=True)


def plan(recipe: AugmentRecipe) -> str:
    """Rows, forward passes and an upper bound of what is written."""
    task, data = recipe.task, recipe.data
    if data.train is None:
        raise RecipeError("data.train is missing: the rows to augment")
    rows = read_rows(data.train, data, kind=task.kind, labelled=False)
    characters = sum(len(text) for text in _texts(rows))
    return (
        f"rows             {len(rows):,} ({characters:,} characters)\n"
        f"model inputs     about {characters * 6 // 10:,}, one a replaceable word\n"
        f"written          at most {len(rows) * recipe.copies:,} rows, {characters * recipe.copies * 3 / 1e6:,.0f} MB"
    )


def count_words(texts: Iterable[str], segmenter: Segmenter) -> Counter[str]:
    """How often each word of the segmenter stands in the texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text[start:end] for start, end in segmenter.cut(text))
    return counts


def words_of(text: str, pieces: Pieces, segmenter: Segmenter, *, longest: int) -> list[Word]:
    """The replaceable words of a text that align with pieces and lie among the first `longest` of them."""
    found = []
    for start, end in segmenter.cut(text):
        if not replaceable(text[start:end]):
            continue
        inside = np.flatnonzero((pieces.starts >= start) & (pieces.ends <= end))
        touching = np.flatnonzero((pieces.starts < end) & (pieces.ends > start))
        if 1 <= len(inside) <= LONGEST_WORD and len(inside) == len(touching) and inside[-1] < longest:
            found.append(Word(start, end, int(inside[0]), int(inside[-1]) + 1))
    return found


class Replacements:
    """For every replaceable word of some texts: what else the model would expect there."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        segmenter: Segmenter,
        lexicon: Lexicon,
        recipe: AugmentRecipe,
    ) -> None:
        self.model, self.tokenizer, self.segmenter = model, tokenizer, segmenter
        self.lexicon, self.recipe = lexicon, recipe
        self.found: dict[str, list[tuple[Word, list[str], NDArray[np.float64]]]] = {}

    def add(self, texts: Sequence[str]) -> None:
        """Ask the model about every word of the texts, each hidden alone, many at once."""
        asked: list[tuple[str, Word, dict[str, NDArray[Any]]]] = []
        longest = self.recipe.max_length - 2
        for text, pieces in zip(texts, self.tokenizer.encode_batch(texts), strict=True):
            if text in self.found:
                continue
            self.found[text] = []
            for word in words_of(text, pieces, self.segmenter, longest=longest):
                asked.append((text, word, hide(pieces.ids[:longest], word, self.tokenizer.vocabulary)))
        for group in _groups(asked):
            self._ask(group)

    def _ask(self, group: Sequence[tuple[str, Word, dict[str, NDArray[Any]]]]) -> None:
        assert self.model.mlm is not None
        batch = to_tensors(collate([example for _, _, example in group]), torch.device("cpu"))
        hidden_TD = self.model.encode(batch).last_TD
        log_probs_MV = self.model.mlm(hidden_TD[batch["asked_at"]]).float().log_softmax(-1)
        at = 0
        for text, word, _ in group:
            k = word.stop - word.first
            likely = self.lexicon.best(log_probs_MV[at : at + k], self.recipe.candidates + 1)
            at += k
            likely = [(w, s) for w, s in likely if w != text[word.start : word.end]][: self.recipe.candidates]
            if likely:
                scores = np.array([s for _, s in likely], dtype=np.float64)
                odds = np.exp(scores - scores.max())
                self.found[text].append((word, [w for w, _ in likely], odds / odds.sum()))

    def draw(self, text: str, rng: np.random.Generator) -> str:
        """The text with each replaceable word replaced with probability `share`."""
        parts, at = [], 0
        for word, likely, odds in self.found[text]:
            if rng.random() < self.recipe.share:
                parts += [text[at : word.start], likely[int(rng.choice(len(likely), p=odds))]]
                at = word.end
        return "".join([*parts, text[at:]])


def hide(ids: NDArray[np.int64], word: Word, vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    """`[CLS] text [SEP]` with one word's pieces masked, and where they stand."""
    shown = ids.copy()
    shown[word.first : word.stop] = vocabulary.mask
    return {
        "pieces": enclose(vocabulary, shown),
        "asked_at": np.arange(word.first, word.stop) + 1,
    }


def augment_row(
    row: Row, number: int, replacements: Replacements, recipe: AugmentRecipe
) -> Iterator[dict[str, Any]]:
    """New records of one row, none equal to it or to each other; both texts of a pair vary independently."""
    rng = np.random.default_rng((recipe.seed, number))
    seen = {(row.text, row.text_pair)}
    for _ in range(recipe.copies):
        text = replacements.draw(row.text, rng)
        pair = None if row.text_pair is None else replacements.draw(row.text_pair, rng)
        if (text, pair) not in seen:
            seen.add((text, pair))
            yield {"text": text, **({} if pair is None else {"text_pair": pair}), "source": row.place}


def _texts(rows: Sequence[Row]) -> list[str]:
    return [text for row in rows for text in (row.text, row.text_pair) if text is not None]


def _all_texts(texts: Sequence[str], lexicon: Sequence[str]) -> Iterator[str]:
    yield from texts
    if lexicon:
        yield from (document.text for document in read_documents(list(lexicon)))


def _groups(
    asked: Sequence[tuple[str, Word, dict[str, NDArray[Any]]]],
) -> Iterator[list[tuple[str, Word, dict[str, NDArray[Any]]]]]:
    """Neighbours of like length, at most BATCH_PIECES a group."""
    group: list[tuple[str, Word, dict[str, NDArray[Any]]]] = []
    used = 0
    for item in sorted(asked, key=lambda item: len(item[2]["pieces"])):
        length = len(item[2]["pieces"])
        if group and used + length > BATCH_PIECES:
            yield group
            group, used = [], 0
        group.append(item)
        used += length
    if group:
        yield group


def _join(parts: Sequence[Path], target: Path) -> int:
    """All parts in order as one file; the number of lines."""
    text = "".join(part.read_text(encoding="utf-8") for part in parts)
    write_atomic(target, text)
    return text.count("\n")
