"""Smaller tokenizers: every covered text is cut as before, whatever else was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.text.odd_text import odd_text
from tests.text.small_files import write_roberta, write_unigram, write_xlm
from tokenizers import models, pre_tokenizers

from fenghuo.errors import UsageError
from fenghuo.text.byte_pairs import train_byte_pairs
from fenghuo.text.folder import bert_files, checked
from fenghuo.text.pruning import PieceUse, kept_pieces, prune_tokenizer
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.unigram import train_unigram
from fenghuo.text.vocabulary import train_vocabulary
from fenghuo.text.words import RjiebaSegmenter

TEXTS = [
    "我们使用语言模型 learning learns é 3.14",
    "语言，語言。Learning 한국어 unlearned",
    "他们的服务很好 relearn",
]


def _read(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    place, many = tmp_path_factory.mktemp("whole"), TEXTS * 3
    return {
        "wordpiece": train_vocabulary(many, size=200, min_frequency=1),
        "bpe": train_byte_pairs(many, size=400, segmenter=RjiebaSegmenter()),
        "unigram": train_unigram(many, size=200, segmenter=RjiebaSegmenter()),
        "roberta": _read(write_roberta(place / "roberta", many)),
        "xlm": _read(write_xlm(place / "xlm", many)),
        "albert": _read(write_unigram(place / "albert", many, size=120)),
    }


KINDS = ["wordpiece", "bpe", "unigram", "roberta", "xlm", "albert"]


def pruned(tokenizer: Tokenizer, texts: list[str], **options: Any) -> tuple[Tokenizer, np.ndarray[Any, Any]]:
    use = PieceUse(tokenizer)
    use.add(texts)
    kept = kept_pieces(tokenizer, use.counts, **options)
    return prune_tokenizer(tokenizer, kept), kept


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(texts=["\ufb01\ud800\u00e9"])  # what the normalizer of pieces itself refuses
@given(
    texts=st.lists(
        st.sampled_from(TEXTS) | odd_text | st.text("aelnr 语言服务好", max_size=12), min_size=1, max_size=4
    )
)
def test_covered_texts_are_cut_as_before(made: dict[str, Tokenizer], kind: str, texts: list[str]) -> None:
    whole = made[kind]
    smaller, kept = pruned(whole, texts)
    assert smaller.pieces() == [whole.pieces()[old] for old in kept]
    for before, after in zip(whole.encode_batch(texts), smaller.encode_batch(texts), strict=True):
        assert kept[after.ids].tolist() == before.ids.tolist()
        assert (after.starts.tolist(), after.ends.tolist()) == (before.starts.tolist(), before.ends.tolist())


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.text("abc", min_size=2, max_size=4), max_size=12),
    st.sets(st.text("abc", min_size=1, max_size=3), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=3),
)
def test_what_wordpiece_gave_up_stays_unknown(heads: set[str], tails: set[str], words: list[str]) -> None:
    """Without the pieces on the way to a dead end, another way might lead through."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted(heads),
        *(f"##{one}" for one in sorted(tails)),
    ]
    whole = Tokenizer(bert_files(pieces, {}))
    smaller, kept = pruned(whole, words)
    for word in words:
        assert kept[smaller.encode(word).ids].tolist() == whole.encode(word).ids.tolist()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_merges_are_joined_at_the_same_moments(data: st.DataObject) -> None:
    vocabulary = {piece: n for n, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abc"])}
    merges: list[tuple[str, str]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        pair = tuple(data.draw(st.sampled_from(list(vocabulary)[5:])) for _ in "lr")
        if pair not in merges:
            merges.append((pair[0], pair[1]))
            vocabulary.setdefault("".join(pair), len(vocabulary))
    backend: Any = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    whole = Tokenizer(checked(backend.to_str(), {}, None))
    texts = data.draw(st.lists(st.text("abc ", max_size=14), min_size=1, max_size=3))
    smaller, kept = pruned(whole, texts)
    for text in texts:
        assert kept[smaller.encode(text).ids].tolist() == whole.encode(text).ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_specials_keep_their_parts_and_the_folder_its_shape(
    made: dict[str, Tokenizer], kind: str, tmp_path: Path
) -> None:
    whole = made[kind]
    smaller, kept = pruned(whole, ["语言"])
    old, new = whole.vocabulary, smaller.vocabulary
    assert new.size < old.size
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert kept[getattr(new, name)] == getattr(old, name)
    assert tuple(kept[list(new.between)]) == old.between
    assert set(kept[new.replaceable]) <= set(old.replaceable)
    smaller.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == smaller.fingerprint
    assert new.unk not in smaller.encode("abc 123").ids or old.unk in whole.encode("abc 123").ids


def test_characters_size_and_frequency(made: dict[str, Tokenizer]) -> None:
    whole = made["wordpiece"]
    everything, _ = pruned(whole, ["语言"], characters=True)
    assert {"服", "务"} <= set(everything.pieces())
    assert "learn" not in everything.pieces()
    often, _ = pruned(whole, ["服服服务"], min_frequency=2)
    assert "服" in often.pieces()
    assert "务" not in often.pieces()
    least = len(often.pieces()) - 1
    exact, _ = pruned(whole, ["服服服务"], size=least + 1)
    assert exact.pieces() == often.pieces()
    with pytest.raises(UsageError, match=f"{least:,} pieces stay in any case"):
        pruned(whole, ["服服服务"], size=least - 1)
