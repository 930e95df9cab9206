"""Near duplicates: against true Jaccard similarity, the theory's curve, and a slow search for clusters."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fenghuo.corpus import near
from fenghuo.corpus.near import band_keys, bands_of, mark_near, mark_near_repeats, save_keys

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3_000)]


def variants(rng: random.Random, *, number: int, length: int = 300) -> list[str]:
    """A text, and others of which ever more characters are others."""
    base = rng.choices(HAN, k=length)
    found = []
    for step in range(number):
        changed = list(base)
        for place in rng.sample(range(length), k=step % 12):
            changed[place] = rng.choice(HAN)
        found.append("".join(changed))
    return found


def grams(text: str) -> set[str]:
    return {text[i : i + 5] for i in range(len(text) - 4)}


def jaccard(one: str, other: str) -> float:
    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b)


def mark(
    folder: Path, texts: list[str], *, parts: int = 1, gone: set[int] = frozenset()
) -> tuple[list[bool], near.Clusters]:
    similarity, permutations = 0.8, 128
    bounds = np.linspace(0, len(texts), parts + 1).astype(int)
    paths, away = [], []
    for part in range(parts):
        here = texts[bounds[part] : bounds[part + 1]]
        paths.append(folder / f"{part}-of-{parts}.npy")
        keys = [band_keys(here, similarity, permutations)] if here else []
        save_keys(paths[-1], keys, bands_of(similarity, permutations)[0])
        away.append(np.array([n in gone for n in range(bounds[part], bounds[part + 1])], np.bool_))
    marked, clusters = mark_near(paths, away)
    return np.concatenate(marked).tolist(), clusters


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("permutations", [64, 128, 256])
def test_the_curve_is_one_half_at_the_similarity(similarity: float, permutations: int) -> None:
    bands, rows = bands_of(similarity, permutations)
    assert bands * rows <= permutations
    assert 1 - (1 - similarity**rows) ** bands == pytest.approx(0.5, abs=0.15)


def test_pairs_meet_as_often_as_the_theory_says() -> None:
    """At each true similarity, pairs that share a band against 1 - (1 - s^r)^b; tolerance four standard errors."""
    rng = random.Random(0)
    met: dict[int, list[bool]] = {}
    theory: dict[int, list[float]] = {}
    bands, rows = bands_of(0.8, 128)
    for _ in range(60):
        texts = variants(rng, number=12)
        keys = band_keys(texts, 0.8, 128)
        for other in range(1, 12):
            s = jaccard(texts[0], texts[other])
            met.setdefault(other, []).append(bool((keys[:, 0] == keys[:, other]).any()))
            theory.setdefault(other, []).append(1 - (1 - s**rows) ** bands)
    for step, found in met.items():
        wanted = float(np.mean(theory[step]))
        error = max((wanted * (1 - wanted) / len(found)) ** 0.5, 1 / len(found))
        assert np.mean(found) == pytest.approx(wanted, abs=4 * error), step
    assert np.mean(met[1]) > 0.95
    assert np.mean(met[11]) < 0.2


def test_a_hash_function_agrees_with_the_probability_of_jaccard() -> None:
    """One row a band, so that a band is a hash function: the share of equal ones estimates the similarity."""
    rng = random.Random(1)
    texts = variants(rng, number=12, length=400)
    keys = np.concatenate([band_keys(texts, 0.001, 1024)])
    assert len(keys) == 1_024
    for other in range(1, 12):
        s = jaccard(texts[0], texts[other])
        assert (keys[:, 0] == keys[:, other]).mean() == pytest.approx(s, abs=4 * (s * (1 - s) / 1_024) ** 0.5)


def test_recall_and_precision_against_true_similarity() -> None:
    rng = random.Random(2)
    texts = [text for _ in range(12) for text in variants(rng, number=5, length=200)]
    texts += ["".join(rng.choices(HAN, k=200)) for _ in range(20)]
    rng.shuffle(texts)
    keys, sets = band_keys(texts, 0.8, 128), list(map(grams, texts))
    like, unlike, met = set(), set(), set()
    for a, b in combinations(range(len(texts)), 2):
        similarity = len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        like |= {(a, b)} if similarity >= 0.9 else set()
        unlike |= {(a, b)} if similarity < 0.5 else set()
        met |= {(a, b)} if (keys[:, a] == keys[:, b]).any() else set()
    assert len(like) >= 25
    assert len(like & met) / len(like) > 0.9
    assert len(unlike) > 2_000
    assert not unlike & met


def slow_clusters(keys: NDArray[np.uint64], gone: set[int]) -> list[int]:
    """The least document that each is joined to, by going round until nothing changes."""
    like = list(range(keys.shape[1]))
    pairs = [
        (a, b)
        for a, b in combinations(range(keys.shape[1]), 2)
        if not {a, b} & gone and (keys[:, a] == keys[:, b]).any()
    ]
    while True:
        before = list(like)
        for a, b in pairs:
            like[a] = like[b] = min(like[a], like[b])
        if like == before:
            return like


@pytest.mark.parametrize("gone", [set(), {0, 5, 11}])
def test_clusters_are_those_of_a_slow_search(
    gone: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    texts = [text for _ in range(5) for text in variants(rng, number=6, length=60)]
    rng.shuffle(texts)
    like = slow_clusters(band_keys(texts, 0.8, 128), gone)
    marked, clusters = mark(tmp_path, texts, gone=gone)
    assert marked == [first != number for number, first in enumerate(like)]
    sizes = [like.count(first) for first in set(like)]
    assert clusters.sizes == {size: sizes.count(size) for size in set(sizes) if size > 1}
    for parts, together in ((3, 10), (7, 3), (1, 5)):
        monkeypatch.setattr(near, "DECIDED_TOGETHER", together)
        again, same = mark(tmp_path, texts, parts=parts, gone=gone)
        assert again == marked
        assert same.sizes == clusters.sizes
        assert len(same.samples) == len(clusters.samples)


def test_the_first_of_a_cluster_stays_and_samples_begin_with_it(tmp_path: Path) -> None:
    base = "".join(HAN[:200])
    texts = ["".join(HAN[300:500]), base, base[:-1] + "一", "".join(HAN[600:800]), base + "二"]
    marked, clusters = mark(tmp_path, texts, parts=2)
    assert marked == [False, False, True, False, True]
    assert clusters.to_json() == {"clusters": 1, "sizes": {"3": 1}}
    assert clusters.samples == [[(0, 1), (1, 0), (1, 2)]]


def test_marks_alone_are_like_nothing(tmp_path: Path) -> None:
    marked, _ = mark(tmp_path, ["→→→", "←←", "。。。", "", "→→→"])
    assert marked == [False, False, False, False, True]


def test_exact_repeats_are_in_no_cluster(tmp_path: Path) -> None:
    base = "".join(HAN[:100])
    keys, repeats = tmp_path / "keys.npy", tmp_path / "repeats.npy"
    save_keys(keys, [band_keys([base, base, base[:-1]], 0.8, 128)], bands_of(0.8, 128)[0])
    np.save(repeats, np.array([False, True, False]))
    clusters = mark_near_repeats([keys], [repeats])
    assert np.load(repeats).tolist() == [0, 1, near.NEAR]
    assert clusters.sizes == {2: 1}


def test_long_chains_are_one_cluster() -> None:
    like = np.arange(1_000, dtype=np.uint32)
    order = np.random.default_rng(0).permutation(999)
    for part in np.array_split(order, 50):
        near._unite(like, part, part + 1)
    assert near._first_of(like, np.arange(1_000)).max() == 0


def test_an_empty_part(tmp_path: Path) -> None:
    marked, clusters = mark(tmp_path, [], parts=2)
    assert marked == []
    assert clusters.to_json() == {"clusters": 0, "sizes": {}}
