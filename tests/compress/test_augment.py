"""Augmentation: whole words, real words, nothing else touched."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from fenghuo.compress.augment import Lexicon, Replacements, augment_row, count_words, plan, run, words_of
from fenghuo.compress.recipe import AugmentRecipe
from fenghuo.config import build_recipe
from fenghuo.errors import ModelError
from fenghuo.models.folder import save_model
from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.initial import build_model
from fenghuo.rundir import RunDir
from fenghuo.tasks.read_data import Row
from fenghuo.text.tokenizer import Tokenizer
from fenghuo.text.vocabulary import train_vocabulary
from fenghuo.text.words import load_segmenter

TEXTS = ["我们推荐这家酒店，服务很好。", "房间里的设施很新，价格也便宜！", "老师介绍了北京的历史 2008 年。"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_vocabulary(TEXTS * 3, size=200, min_frequency=1)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("pretrained")
    config = EncoderConfig(
        vocab=tokenizer.vocabulary.size, layers=1, width=16, heads=2, inner_width=32, position="nezha"
    )
    save_model(build_model(config, HeadsConfig(mlm=True), seed=0, family="nezha"), target)
    tokenizer.save(target)
    return target


def recipe_of(folder: Path, rows: Path, **more: object) -> AugmentRecipe:
    return build_recipe(
        AugmentRecipe, {"model": str(folder), "data": {"train": str(rows)}, "copies": 4, "seed": 5, **more}
    )


def write_rows(path: Path) -> Path:
    path.write_text("label\ttext\n" + "".join(f"1\t{text}\n" for text in TEXTS), encoding="utf-8")
    return path


def test_the_best_words_are_those_a_full_search_finds(tokenizer: Tokenizer) -> None:
    segmenter = load_segmenter("rjieba")
    lexicon = Lexicon(count_words(TEXTS, segmenter), tokenizer)
    log_probs = torch.randn(
        2, tokenizer.vocabulary.size, generator=torch.Generator().manual_seed(0)
    ).log_softmax(-1)
    scores = {}
    for word in {text[a:b] for text in TEXTS for a, b in segmenter.cut(text)}:
        ids = tokenizer.encode(word).ids
        if word.isalpha() and len(ids) == 2:
            scores[word] = float(log_probs[0, ids[0]] + log_probs[1, ids[1]])
    wanted = sorted(scores, key=lambda word: -scores[word])[:5]
    assert [word for word, _ in lexicon.best(log_probs, 5)] == wanted
    assert lexicon.best(torch.zeros(9, 3), 5) == []


def test_words_are_replaceable_only_where_pieces_agree_with_them(tokenizer: Tokenizer) -> None:
    segmenter = load_segmenter("rjieba")
    for text in TEXTS:
        for word in words_of(text, tokenizer.encode(text), segmenter, longest=100):
            assert text[word.start : word.end].isalpha()
            pieces = tokenizer.encode(text)
            assert (pieces.starts[word.first], pieces.ends[word.stop - 1]) == (word.start, word.end)
    cut = words_of(TEXTS[0], tokenizer.encode(TEXTS[0]), segmenter, longest=4)
    assert all(word.stop <= 4 for word in cut)


def test_variants_are_words_from_real_text_and_the_rest_stands(folder: Path, tokenizer: Tokenizer) -> None:
    from fenghuo.models.folder import load_model

    segmenter = load_segmenter("rjieba")
    recipe = recipe_of(folder, folder / "unused.tsv", copies=30)
    lexicon = Lexicon(count_words(TEXTS, segmenter), tokenizer)
    replacements = Replacements(load_model(folder), tokenizer, segmenter, lexicon, recipe)
    with torch.inference_mode():
        replacements.add(TEXTS)
    known = {word for words in lexicon.words.values() for word in words}
    replaced: Counter[str] = Counter()
    for number, text in enumerate(TEXTS):
        variants = [
            record["text"]
            for record in augment_row(Row("f:1", text, label="1"), number, replacements, recipe)
        ]
        assert len(variants) == len(set(variants)) > 5
        for variant in variants:
            assert len(variant) == len(text)
            assert [c for c in variant if not c.isalpha()] == [c for c in text if not c.isalpha()]
            for word, _, _ in replacements.found[text]:
                now = variant[word.start : word.end]
                replaced["changed" if now != text[word.start : word.end] else "kept"] += 1
                assert now in known
    share = replaced["changed"] / sum(replaced.values())
    # Unchanged texts are dropped, which lifts the share a little above 0.4.
    assert abs(share - 0.4) < 0.1


def test_odds_follow_the_models_probabilities(folder: Path, tokenizer: Tokenizer) -> None:
    from fenghuo.models.folder import load_model

    segmenter = load_segmenter("rjieba")
    recipe = recipe_of(folder, folder / "unused.tsv", share=1.0, candidates=3)
    lexicon = Lexicon(count_words(TEXTS, segmenter), tokenizer)
    replacements = Replacements(load_model(folder), tokenizer, segmenter, lexicon, recipe)
    with torch.inference_mode():
        replacements.add(TEXTS[:1])
    word, likely, odds = replacements.found[TEXTS[0]][0]
    rng = np.random.default_rng(0)
    drawn = Counter(replacements.draw(TEXTS[0], rng)[word.start : word.end] for _ in range(4000))
    for name, share in zip(likely, odds, strict=True):
        assert abs(drawn[name] / 4000 - share) < 5 * (share * (1 - share) / 4000) ** 0.5 + 1e-9


def test_a_run_is_repeatable_and_goes_on_after_its_last_chunk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fenghuo.compress.augment.CHUNK_ROWS", 1)
    rows = write_rows(tmp_path / "train.tsv")
    recipe = recipe_of(folder, rows)
    assert "at most 12 rows" in plan(recipe)
    run(recipe, RunDir.open(tmp_path / "one", verb="augment", recipe=recipe))
    said = (tmp_path / "one" / "log.txt").read_text(encoding="utf-8")
    whole = (tmp_path / "one" / "augmented.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in whole.splitlines()]
    assert not (tmp_path / "one" / "work").exists()
    assert {record["source"].rsplit(":", 1)[1] for record in records} == {"2", "3", "4"}
    assert said.endswith(f"augmented.jsonl: {len(records)} new rows from 3\n")

    asked = 0
    ask = Replacements.add

    def stop_in_the_third_chunk(self: Replacements, texts: list[str]) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise KeyboardInterrupt
        ask(self, texts)

    monkeypatch.setattr(Replacements, "add", stop_in_the_third_chunk)
    two = RunDir.open(tmp_path / "two", verb="augment", recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, two)
    two.close()
    run(recipe, RunDir.open(tmp_path / "two", verb="augment", recipe=recipe))
    assert asked == 4  # two chunks, the one that was cut off, and that one again
    assert (tmp_path / "two" / "augmented.jsonl").read_text(encoding="utf-8") == whole


def test_a_model_without_an_mlm_head_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = EncoderConfig(vocab=tokenizer.vocabulary.size, layers=1, width=16, heads=2, inner_width=32)
    save_model(build_model(config, HeadsConfig(), seed=0, family="bert"), tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    recipe = recipe_of(tmp_path / "model", write_rows(tmp_path / "train.tsv"))
    with pytest.raises(ModelError, match="no MLM head"):
        run(recipe, RunDir.open(tmp_path / "run", verb="augment", recipe=recipe))
