"""`causal` says in one word what `left_to_right` says pair by pair."""

from __future__ import annotations

import pytest
import torch

from fenghuo.net import chunks
from fenghuo.net.encoder import Encoder
from fenghuo.net.mask import left_to_right
from fenghuo.net.packing import Packing

LENGTHS = [[5, 5, 5], [7, 1, 30, 29, 6], [3], []]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_ROWS", 5)
    monkeypatch.setattr(chunks, "_CHUNK", 100)


def both_ways(config, lengths, *, training, places=False, scores=()):
    """(output, gradients, scores) by the flag, and by the mask."""
    torch.manual_seed(0)
    encoder = Encoder(config).double()
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    encoder.train(training)
    packing = Packing.of(lengths)
    pieces = torch.randint(config.vocab, (packing.total,))
    found = []
    for given in ({"causal": True}, {"allowed": left_to_right(packing)}):
        encoder.zero_grad()
        torch.manual_seed(3)  # of dropout
        positions = packing.positions_T * 2 if places else None
        encoded = encoder(pieces, packing, positions_T=positions, scores=scores, **given)
        (encoded.last_TD * torch.linspace(-1, 1, config.width, dtype=torch.float64)).sum().backward()
        grads = [weight.grad.clone() for weight in encoder.parameters() if weight.grad is not None]
        found.append((encoded.last_TD.detach(), grads, encoded.scores))
    return found


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("position", ["learned", "nezha", "none"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.usefixtures("small_chunks")
def test_the_flag_is_the_mask(tiny, lengths, position, dropout):
    config = tiny(position=position, attention_dropout=dropout)
    (out, grads, _), (wanted, theirs, _) = both_ways(config, lengths, training=True)
    torch.testing.assert_close(out, wanted)
    for a, b in zip(grads, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("position", ["learned", "nezha"])
def test_with_places_and_scores(tiny, position):
    config = tiny(position=position)
    (out, _, scores), (wanted, _, theirs) = both_ways(config, [6, 9], training=False, places=True, scores=[0])
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(scores[0], theirs[0])


@pytest.mark.parametrize("position", ["learned", "nezha", "xl"])
def test_what_follows_changes_nothing(tiny, position):
    config = tiny(position=position)
    torch.manual_seed(0)
    encoder = Encoder(config).double().eval()
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    packing = Packing.of([8, 12])
    pieces = torch.randint(31, (20,))
    other = pieces.clone()
    other[5:8] = (other[5:8] + 1) % 31
    one, two = (encoder(x, packing, causal=True).last_TD for x in (pieces, other))
    assert torch.equal(one[:5], two[:5])
    assert torch.equal(one[8:], two[8:])
    assert not torch.equal(one[5:8], two[5:8])


def test_one_square_serves_all_sequences(tiny, monkeypatch):
    """No number for each pair of the batch is made."""
    config = tiny(position="nezha", attention_dropout=0.0)
    packing = Packing.of([20] * 50)
    monkeypatch.setattr(Packing, "squares", lambda *_: pytest.fail("squares of all sequences"))
    Encoder(config)(torch.zeros(1000, dtype=torch.int64), packing, causal=True)


def test_a_mask_beside_it_is_refused(tiny):
    packing = Packing.of([3])
    with pytest.raises(ValueError, match="causal fits neither `allowed`"):
        Encoder(tiny())(
            torch.zeros(3, dtype=torch.int64), packing, causal=True, allowed=left_to_right(packing)
        )
