"""Every path of attention against the formula, forward and backward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fenghuo.net import chunked, chunks
from fenghuo.net.chunked import chunked_attention
from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import keep_mask
from fenghuo.net.hear_packed import PackedHear
from fenghuo.net.hear_padded import PaddedHear
from fenghuo.net.packing import Packing
from fenghuo.net.position import distance_table


@pytest.fixture(params=["heads cut", "sequences cut"])
def small_chunks(request, monkeypatch):
    """Chunks so small that every edge of the cutting is met: uneven slices, several blocks of rows."""
    monkeypatch.setattr(chunks, "_ROWS", 5)
    monkeypatch.setattr(chunks, "_CHUNK", 100 if request.param == "heads cut" else 500)


@pytest.fixture(params=["kept", "made again"])
def weights(request, monkeypatch):
    monkeypatch.setattr(chunked, "_KEPT", 1 << 22 if request.param == "kept" else 0)


def by_head(*shape: int) -> torch.Tensor:
    """(n, H, L, N) as the projections leave it: heads side by side in a row."""
    n, heads, length, width = shape
    return torch.randn(n, length, heads, width, dtype=torch.float64, requires_grad=True).transpose(1, 2)


@pytest.mark.parametrize("length", [1, 2, 4, 9, 23])
@pytest.mark.parametrize(
    "clip", [1, 4, 40, None], ids=lambda clip: "plain" if clip is None else f"clip-{clip}"
)
@pytest.mark.usefixtures("small_chunks", "weights")
def test_chunks_with_dropout_are_the_formula(oracle, table_oracle, length, clip):
    torch.manual_seed(length)
    table = None if clip is None else table_oracle(clip, 6)
    q, k, v = (by_head(3, 2, length, 6) for _ in range(3))
    keep, keep_scale = keep_mask((3, 2, length, length), 0.3, torch.device("cpu"))
    allowed = torch.rand(3, 1, 1, length) < 0.7
    allowed[..., 0] = True
    bias = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)
    wanted, wanted_score = oracle(q, k, v, table=table, allowed=allowed, weight_factor=keep * keep_scale)
    heard, score = chunked_attention(
        q, k, v, scale=6**-0.5, table=table, bias=bias, keep=keep, keep_scale=keep_scale, want_scores=True
    )
    torch.testing.assert_close(heard, wanted)
    torch.testing.assert_close(score, wanted_score)
    grads = torch.randn_like(heard), torch.randn_like(score)
    mine = torch.autograd.grad((heard, score), (q, k, v), grads)
    theirs = torch.autograd.grad((wanted, wanted_score), (q, k, v), grads)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("length", [32, 65, 128, 200])
@pytest.mark.parametrize("width", [26, 64])
def test_chunks_in_float32_are_within_a_hundred_thousandth(oracle, table_oracle, length, width):
    torch.manual_seed(length)
    q, k, v = (torch.randn(2, 3, length, width, requires_grad=True) for _ in range(3))
    heard, _ = chunked_attention(q, k, v, scale=width**-0.5, table=distance_table(64, width))
    exact, _ = oracle(q.double(), k.double(), v.double(), table=table_oracle(64, width))
    torch.testing.assert_close(heard.double(), exact, rtol=0, atol=1e-5)
    grad = torch.randn_like(heard)
    mine = torch.autograd.grad(heard, (q, k, v), grad)
    theirs = torch.autograd.grad(exact, (q, k, v), grad.double())
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("nezha", [True, False], ids=["nezha", "plain"])
@pytest.mark.usefixtures("small_chunks", "weights")
def test_chunks_pass_gradcheck_with_a_fixed_mask(table_oracle, nezha):
    torch.manual_seed(0)
    table = table_oracle(2, 4) if nezha else None
    q, k, v = (torch.randn(1, 2, 7, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    keep, keep_scale = keep_mask((1, 2, 7, 7), 0.4, torch.device("cpu"))

    def attend(q, k, v):
        return chunked_attention(
            q, k, v, scale=0.5, table=table, keep=keep, keep_scale=keep_scale, want_scores=True
        )

    assert torch.autograd.gradcheck(attend, (q, k, v))


@pytest.mark.usefixtures("small_chunks")
def test_chunks_with_only_one_output_used():
    q, k, v = (torch.randn(1, 2, 7, 4, requires_grad=True) for _ in range(3))
    _, score = chunked_attention(q, k, v, scale=1.0, want_scores=True)
    mine = torch.autograd.grad(score.square().sum(), (q, k))
    theirs = torch.autograd.grad((q @ k.mT).square().sum(), (q, k))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


class Largest(TorchDispatchMode):
    """Bytes of the largest memory that an operation returned, masks of a byte a score apart."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor) and x.dtype != torch.uint8:
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return out


@pytest.mark.slow
@pytest.mark.parametrize("position", ["none", "nezha"])
def test_memory_is_linear_in_the_length(monkeypatch, position):
    """Beyond the dropped weights' bytes: no (L, L) square in float, and nothing of (L, L, N)."""
    monkeypatch.setattr(chunked, "_KEPT", 0)
    monkeypatch.setattr(chunks, "_ROWS", 16)
    monkeypatch.setattr(chunks, "_CHUNK", 1 << 14)
    config = EncoderConfig(vocab=5, layers=1, heads=2, width=32, position=position)
    table = distance_table(64, 16) if position == "nezha" else None
    most = []
    for length in (512, 1024, 2048):
        monkeypatch.setattr(chunks, "_SPACE", chunks._Space())
        q, k, v = (torch.randn(length, 32, requires_grad=True) for _ in range(3))
        with Largest() as seen:
            hear = PackedHear(config, Packing.of([length]), table=table, dropout=0.1)
            hear(0, q, k, v).sum().backward()
        most.append(seen.bytes)
    assert most[0] < 512 * 512 * 4 / 2
    assert most[2] <= 2.01 * most[1] <= 4.05 * most[0]


@pytest.mark.parametrize("table", [None, distance_table(4, 4)], ids=["plain", "nezha"])
def test_training_follows_inference_mode_in_one_thread(table):
    """The memory that calls share is written in both."""
    chunks._SPACE.buffers.clear()
    chunks._SPACE.windows = None
    q, k, v = (torch.randn(1, 2, 9, 4) for _ in range(3))
    with torch.inference_mode():
        first, _ = chunked_attention(q, k, v, scale=0.5, table=table)
    k.requires_grad_()
    second, _ = chunked_attention(q, k, v, scale=0.5, table=table)
    second.sum().backward()
    assert torch.equal(first, second)


def test_a_table_that_changed_is_read_again(oracle):
    table = distance_table(4, 4)
    q, k, v = (torch.randn(1, 2, 9, 4) for _ in range(3))
    for _ in range(2):
        heard, _ = chunked_attention(q, k, v, scale=0.5, table=table)
        torch.testing.assert_close(heard, oracle(q, k, v, table=table)[0])
        table.mul_(2)


PATHS = {
    "plain": {"position": "none"},
    "nezha": {"position": "nezha", "relative_clip": 4},
}


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 24), min_size=1, max_size=6),
    kind=st.sampled_from(sorted(PATHS)),
    with_scores=st.booleans(),
    causal=st.booleans(),
)
def test_packed_attention_is_the_formula_for_each_sequence(
    oracle, table_oracle, lengths, kind, with_scores, causal
):
    config = EncoderConfig(vocab=5, layers=1, heads=2, width=12, **PATHS[kind])
    packing = Packing.of(lengths)
    table = table_oracle(4, 6) if kind == "nezha" else None
    q, k, v = (torch.randn(packing.total, 12, dtype=torch.float64, requires_grad=True) for _ in range(3))
    query_P, key_P = packing.pairs
    hear = PackedHear(
        config,
        packing,
        table=table,
        allowed_P=key_P <= query_P if causal else None,
        keep_scores=[0] if with_scores else [],
    )
    heard = hear(0, q, k, v)

    wanted, scores = [], []
    for a, n in zip(packing.starts.tolist(), lengths, strict=True):
        parts = (x[a : a + n].view(n, 2, 6).transpose(0, 1) for x in (q, k, v))
        allowed = torch.ones(n, n, dtype=torch.bool).tril() if causal else None
        out, score = oracle(*parts, table=table, allowed=allowed)
        wanted.append(out.transpose(0, 1).flatten(1))
        scores.append(score.flatten(1))
    tolerance = {"rtol": 0, "atol": 1e-5} if kind == "nezha" else {}
    torch.testing.assert_close(heard, torch.cat(wanted), **tolerance)
    grad = torch.randn_like(heard)
    mine = torch.autograd.grad(heard, (q, k, v), grad, retain_graph=True)
    theirs = torch.autograd.grad(torch.cat(wanted), (q, k, v), grad, retain_graph=True)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance)
    if with_scores:
        wanted_HP = torch.cat(scores, 1)
        torch.testing.assert_close(hear.scores[0], wanted_HP, **tolerance)
        grad_HP = torch.randn_like(wanted_HP)
        mine = torch.autograd.grad(hear.scores[0], (q, k), grad_HP)
        theirs = torch.autograd.grad(wanted_HP, (q, k), grad_HP)
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, **tolerance)


def test_places_with_gaps_are_heard_at_their_distance(oracle, table_oracle):
    torch.manual_seed(0)
    config = EncoderConfig(vocab=5, layers=1, heads=1, width=6, position="nezha", relative_clip=4)
    places = torch.tensor([0, 1, 5, 6, 12, 3, 4, 5])
    q, k, v = (torch.randn(8, 6, dtype=torch.float64) for _ in range(3))
    hear = PackedHear(config, Packing.of([5, 3]), table=table_oracle(4, 6), places_T=places)
    heard = hear(0, q, k, v)
    for part in (slice(0, 5), slice(5, 8)):
        out, _ = oracle(q[part], k[part], v[part], table=table_oracle(4, 6), places=places[part])
        torch.testing.assert_close(heard[part], out, rtol=0, atol=1e-5)
    assert not hear.scores


@pytest.mark.parametrize("position", ["none", "nezha"])
@pytest.mark.parametrize("with_scores", [True, False])
def test_the_way_for_other_devices_is_the_formula(oracle, table_oracle, monkeypatch, position, with_scores):
    torch.manual_seed(0)
    config = EncoderConfig(vocab=5, layers=1, heads=1, width=6, position=position, relative_clip=4)
    table = table_oracle(4, 6) if position == "nezha" else None
    q, k, v = (torch.randn(15, 6, dtype=torch.float64) for _ in range(3))
    hear = PackedHear(config, Packing.of([12, 3]), table=table, keep_scores=[0] if with_scores else [])
    monkeypatch.setattr(hear, "on_cpu", False)
    heard, scores = hear(0, q, k, v), []
    for part in (slice(0, 12), slice(12, 15)):
        out, score = oracle(q[part], k[part], v[part], table=table)
        torch.testing.assert_close(heard[part], out, rtol=0, atol=1e-5)
        scores.append(score.flatten())
    assert list(hear.scores) == ([0] if with_scores else [])
    if with_scores:
        torch.testing.assert_close(hear.scores[0][0], torch.cat(scores), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[9], [30, 30], [5, 40, 33]])
@pytest.mark.parametrize("position", ["none", "nezha"])
def test_dropout_falls_on_the_weights(position, lengths):
    """With values of ones (and no distances in them) a row hears the sum of its weights: 1 without dropout."""
    config = EncoderConfig(vocab=5, layers=1, heads=4, width=16, position=position, relative_clip=8)
    table = distance_table(8, 4) if position == "nezha" else None
    packing = Packing.of(lengths)
    q_TD, k_TD = torch.randn(packing.total, 16), torch.randn(packing.total, 16)
    sums = []
    torch.manual_seed(0)
    for _ in range(200):
        hear = PackedHear(config, packing, table=table, dropout=0.2)
        sums.append(hear(0, q_TD, k_TD, torch.ones(packing.total, 16)))
    still = PackedHear(config, packing, table=table)(0, q_TD, k_TD, torch.ones(packing.total, 16))
    drawn = torch.stack(sums)
    assert float((drawn.mean(0) - still).abs().mean()) < 0.05
    assert float(drawn.std(0).mean()) > 0.02


def test_the_same_seed_gives_the_same_bits():
    config = EncoderConfig(vocab=5, layers=1, heads=2, width=8, position="nezha", relative_clip=4)
    packing = Packing.of([20, 3, 20])

    def run():
        torch.manual_seed(3)
        q, k, v = (torch.randn(43, 8, requires_grad=True) for _ in range(3))
        heard = PackedHear(config, packing, table=distance_table(4, 4), dropout=0.1)(0, q, k, v)
        return heard, *torch.autograd.grad(heard.sum(), (q, k, v))

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize("length", [4, 12])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("position", ["none", "nezha"])
def test_bfloat16_autocast_stays_near_float32(length, dropout, position):
    config = EncoderConfig(vocab=5, layers=1, heads=2, width=16, position=position, relative_clip=4)
    table = distance_table(4, 8) if position == "nezha" else None
    q, k, v = (torch.randn(3 * length, 16).bfloat16().requires_grad_() for _ in range(3))
    wide = [x.detach().float().requires_grad_() for x in (q, k, v)]
    results = []
    for parts, half in (((q, k, v), True), (wide, False)):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            heard = PackedHear(config, Packing.of([length] * 3), table=table, dropout=dropout)(0, *parts)
            assert heard.dtype == (torch.bfloat16 if half else torch.float32)
        results.append((heard, *torch.autograd.grad(heard.float().square().sum(), parts)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine.float(), theirs, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("length", [1, 2, 5, 6, 17])
@pytest.mark.parametrize("position", ["none", "nezha"])
def test_the_padded_layout_is_the_formula(oracle, table_oracle, length, position):
    config = EncoderConfig(vocab=5, layers=1, heads=2, width=12, position=position, relative_clip=4)
    table = table_oracle(4, 6) if position == "nezha" else None
    q, k, v = (torch.randn(3, length, 12, dtype=torch.float64) for _ in range(3))
    allowed = torch.rand(3, 1, 1, length) < 0.7
    allowed[..., 0] = True
    heard = PaddedHear(config, allowed, length, table)(0, q, k, v)
    parts = (x.view(3, length, 2, 6).transpose(1, 2) for x in (q, k, v))
    wanted, _ = oracle(*parts, table=table, allowed=allowed)
    torch.testing.assert_close(heard, wanted.transpose(1, 2).flatten(2))


def test_a_piece_that_hears_nothing_is_an_error(tiny):
    with pytest.raises(ValueError, match="hear nothing"):
        PackedHear(tiny(), Packing.of([2]), allowed_P=torch.tensor([True, False, False, False]))
