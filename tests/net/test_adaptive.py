"""Words in clusters: against a dense table, torch's own adaptive softmax, and the words that were asked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fenghuo.net.adaptive import AdaptiveSoftmax, AdaptiveWords
from fenghuo.net.config import EncoderConfig

CASES = [((), 1), ((), 2), ((10,), 1), ((10, 17, 30), 1), ((10, 17, 30), 2), ((4, 20), 4)]


def made(cutoffs, divisor, vocab=40):
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab=vocab, width=16, heads=2, adaptive=True, cutoffs=cutoffs, cutoff_divisor=divisor
    )
    words = AdaptiveWords(config)
    head = AdaptiveSoftmax(config, words)
    with torch.no_grad():
        for parameter in [*words.parameters(), *head.parameters()]:
            parameter.normal_(std=0.4)
    return words.double(), head.double()


def dense(words):
    """(V, D): each word's vector, widened, one after another."""
    rows = []
    for number in range(len(words.spans)):
        vectors, widen = words.cluster(number)
        rows.append(vectors if widen is None else vectors @ widen.T)
    return torch.cat(rows)


@pytest.mark.parametrize(("cutoffs", "divisor"), CASES)
@given(st.lists(st.integers(0, 39), max_size=12))
@settings(deadline=None, max_examples=15)
def test_words_are_those_of_a_dense_table(cutoffs, divisor, ids):
    words, _ = made(cutoffs, divisor)
    ids = torch.tensor(ids, dtype=torch.long)
    torch.testing.assert_close(words(ids), dense(words)[ids] * 4)
    assert torch.equal(words(ids[None])[0], words(ids))


@pytest.mark.parametrize(("cutoffs", "divisor"), CASES)
def test_log_probabilities_sum_to_one_and_those_asked_are_theirs(cutoffs, divisor):
    _, head = made(cutoffs, divisor)
    hidden, target = torch.randn(50, 16, dtype=torch.float64, requires_grad=True), torch.randint(40, (50,))
    log_prob = head(hidden)
    assert log_prob.shape == (50, 40)
    torch.testing.assert_close(log_prob.logsumexp(1), torch.zeros(50, dtype=torch.float64))
    wanted = F.nll_loss(log_prob, target, reduction="none")
    found = head.nll(hidden, target)
    torch.testing.assert_close(found, wanted)
    parameters = [hidden, *head.parameters(), *head._tied[0].parameters()]
    mine, theirs = (
        torch.autograd.grad(x.sum(), parameters, retain_graph=True, allow_unused=True)
        for x in (found, wanted)
    )
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("targets", [[0, 3, 9], [35, 36], [12], []])
def test_clusters_nobody_asks_cost_and_change_nothing(targets):
    _, head = made((10, 17, 30), 2)
    asked, hidden = torch.tensor(targets, dtype=torch.long), torch.randn(len(targets), 16).double()
    rows, within = [], head._within
    head._within = lambda number, x: rows.append(len(x)) or within(number, x)
    found = head.nll(hidden, asked)
    assert sum(rows) == sum(x >= 10 for x in targets)
    torch.testing.assert_close(found, -head(hidden).gather(1, asked[:, None]).squeeze(1))


@pytest.mark.parametrize("cutoffs", [(10,), (10, 17, 30)])
def test_it_is_torchs_adaptive_softmax_where_the_two_agree(cutoffs):
    """torch's tails know no biases, and its maps are not tied; with theirs set alike the numbers are the same, the
    order of the clusters' columns included."""
    words, head = made(cutoffs, 2)
    other = nn.AdaptiveLogSoftmaxWithLoss(16, 40, list(cutoffs), div_value=2.0, head_bias=True).double()
    with torch.no_grad():
        for bias in list(head.biases)[1:]:
            bias.bias.zero_()
        first = torch.cat([words.cluster(0)[0], head.clusters.weight])
        other.head.weight.copy_(first @ head.map.weight.T)
        other.head.bias.copy_(torch.cat([head.biases[0].bias, head.clusters.bias]))
        for number, tail in enumerate(other.tail, start=1):
            vectors, widen = words.cluster(number)
            tail[0].weight.copy_(widen.T)
            tail[1].weight.copy_(vectors)
    hidden, target = torch.randn(60, 16).double(), torch.randint(40, (60,))
    torch.testing.assert_close(head(hidden), other.log_prob(hidden))
    torch.testing.assert_close(head.nll(hidden, target), -other(hidden, target).output)


def test_without_cutoffs_it_is_a_plain_tied_softmax():
    words, head = made((), 1)
    hidden = torch.randn(5, 16).double()
    wanted = F.linear(hidden, words.tables[0].weight, head.biases[0].bias).log_softmax(-1)
    torch.testing.assert_close(head(hidden), wanted)


def test_half_precision_sums_in_float32():
    words, head = made((10,), 2)
    words.to(torch.bfloat16)
    assert head.to(torch.bfloat16)(torch.randn(2, 16, dtype=torch.bfloat16)).dtype == torch.float32


def test_targets_that_do_not_fit_are_explained():
    _, head = made((10,), 2)
    hidden = torch.randn(3, 16).double()
    with pytest.raises(ValueError, match="targets are"):
        head.nll(hidden, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="from -1 to 40, the vocabulary has 40 words"):
        head.nll(hidden, torch.tensor([0, -1, 40]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cutoffs": (5, 5)}, "above the one before"),
        ({"cutoffs": (0, 5)}, "above 0"),
        ({"adaptive": False, "cutoffs": (5,)}, "need adaptive words"),
        ({"embed_width": 8}, "leave embed_width at 0"),
        ({"cutoffs": (5, 6, 7), "cutoff_divisor": 4}, "no width"),
    ],
)
def test_configs_that_do_not_fit(values, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**{"vocab": 40, "width": 16, "heads": 2, "adaptive": True, **values})


def test_cutoffs_past_the_vocabulary_cut_nothing():
    config = EncoderConfig(vocab=40, width=16, heads=2, adaptive=True, cutoffs=(10, 40, 200))
    assert config.cutoffs == (10,)
