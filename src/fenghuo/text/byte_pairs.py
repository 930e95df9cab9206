"""A byte-level BPE vocabulary from text, as RoBERTa has it: every text is spelt in it, nothing is unknown.

The library's own trainer merges: its result is the same in whatever order words come and however its threads run
(tests/text/test_byte_pairs.py). It cannot be handed counted words, so each is handed over as often as it occurs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from fenghuo.errors import RecipeError
from fenghuo.text.folder import byte_level_files
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.word_counts import count_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fenghuo.text.words import Segmenter

FIRST, LAST = ("<s>", "<pad>", "</s>", "<unk>"), "<mask>"
"""RoBERTa's order, which its family counts on: places begin after the row of <pad>."""
_HANDED_TOGETHER = 1_000


def train_byte_pairs(
    texts: Iterable[str], *, size: int, segmenter: Segmenter, min_frequency: int = 2
) -> Tokenizer:
    """A RoBERTa tokenizer whose merges (Sennrich et al. 2016, arXiv 1508.07909, over bytes) are learnt from `texts`,
    read once, in bounded memory. Case is kept.

    Args:
        size: pieces at most; five special ones and 256 bytes included.
        segmenter: no merge runs across an edge of its words.
        min_frequency: of a merge.

    Raises:
        RecipeError: `size` has no room for a merge.
        DataError: there is no text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fixed = len(FIRST) + 1 + len(alphabet)
    if size <= fixed:
        raise RecipeError(
            f"a vocabulary of {size} has no room beside {len(FIRST) + 1} special pieces and {len(alphabet)} bytes: "
            f"a byte-level size is at least {fixed + 1}"
        )
    words = count_words(texts, segmenter)
    backend: Any = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        min_frequency=max(min_frequency, 1),
        special_tokens=list(FIRST),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(_repeated(words), trainer)
    model = json.loads(backend.to_str())["model"]
    ids = model["vocab"] | {LAST: len(model["vocab"])}
    return Tokenizer(byte_level_files(ids, [" ".join(pair) for pair in model["merges"]], {}))


def _repeated(words: Mapping[str, int]) -> Iterator[list[str]]:
    for word, times in words.items():
        for begin in range(0, times, _HANDED_TOGETHER):
            yield [word] * min(times - begin, _HANDED_TOGETHER)
