"""Position "xl": distances, memory, and what is never heard."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.hear_relative import RelativeHear, remember
from fenghuo.net.initial import build_model
from fenghuo.net.mask import same_group
from fenghuo.net.packing import Packing
from fenghuo.net.relative import Relative, distance_sinusoids, shift

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=4)


def small(**values):
    standard = {"vocab": 31, "layers": 2, "heads": 2, "width": 8, "position": "xl", "relative_clip": 0}
    shared = {"segments": 0, "memory": 40, "adaptive": True, "attention_bias": False, "dropout": 0.0}
    return EncoderConfig(**{**standard, **shared, "activation": "relu", "norm_eps": 1e-5, **values})


def build(*, heads=None, **values):
    """A model in float64 whose attention is far from uniform."""
    heads = HeadsConfig(pooler=False) if heads is None else heads
    model = build_model(small(**values), heads, seed=0).to(torch.float64).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def batch(*lengths):
    return {"pieces": torch.randint(31, (sum(lengths),)), "lengths": torch.tensor(lengths)}


def cut(ids_BL, ends):
    """Packed batches of the columns between `ends`."""
    for start, end in zip((0, *ends), ends, strict=False):
        part = ids_BL[:, start:end]
        yield {"pieces": part.flatten(), "lengths": torch.full((len(part),), end - start)}


@given(st.integers(1, 6), st.integers(0, 5))
def test_the_shift_finds_each_distance(queries, memory):
    """Against the double loop: entry [i, j] is what stood in the column of distance M + i - j."""
    keys = memory + queries
    x_QK = torch.randn(2, 3, queries, keys + 1)
    shifted = shift(x_QK)
    assert shifted.shape == (2, 3, queries, keys)
    for i in range(queries):
        for j in range(memory + i + 1):
            assert torch.equal(shifted[..., i, j], x_QK[..., i, keys - 1 - (memory + i - j)])


def test_the_shift_makes_no_copy_of_more_than_its_numbers():
    x_QK = torch.randn(5, 12)
    shifted = shift(x_QK)
    assert shifted.untyped_storage().data_ptr() == x_QK.untyped_storage().data_ptr()


def test_sines_stand_before_cosines_and_far_keys_look_alike():
    rows = distance_sinusoids(6, 4, 3, torch.device("cpu"))
    assert rows.shape == (7, 4)
    for row, distance in enumerate([3, 3, 3, 2, 1, 0, 0]):
        angles = [distance, distance / 100]
        wanted = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])
        torch.testing.assert_close(rows[row], wanted)
    far = distance_sinusoids(6, 4, 0, torch.device("cpu"))
    torch.testing.assert_close(far[0, 0], torch.tensor(math.sin(5)))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("values", [{}, {"relative_clip": 3}, {"same_length": True, "memory": 4}])
def test_attention_is_the_formula(values, shared):
    """Score by score, in loops over queries and keys, with memory, ragged lengths and a layer's own weights."""
    torch.manual_seed(0)
    config = small(relative_shared=shared, **values)
    relative = Relative(config).to(torch.float64)
    with torch.no_grad():
        for parameter in relative.parameters():
            parameter.normal_()
    packing, memory, layer = Packing.of([3, 5, 1]), 2, 1
    rows = len(packing) * memory
    q, k, v = (torch.randn(n, 8, dtype=torch.float64) for n in (9, rows + 9, rows + 9))
    heard = RelativeHear(config, relative, packing, memory=memory)(layer, q, k, v)
    name = "shared" if shared else "1"
    content, distance = (getattr(relative.queries[name], x).weight for x in ("content", "distance"))
    start = 0
    for sequence, length in enumerate(packing.sizes):
        there = [
            *range(sequence * memory, (sequence + 1) * memory),
            *range(rows + start, rows + start + length),
        ]
        for i in range(length):
            for head in range(2):
                at = slice(4 * head, 4 * head + 4)
                scores, values_heard = [], []
                for j, row in enumerate(there[: memory + i + 1]):
                    far = memory + i - j
                    if config.same_length and far >= config.memory:
                        continue
                    place = min(far, config.relative_clip or far)
                    # The first of place + 1 rows is of distance `place`.
                    key = relative.maps[layer](
                        distance_sinusoids(place + 1, 8, 0, torch.device("cpu")).double()[0]
                    )
                    query = q[start + i, at]
                    score = (query + content[head]) @ k[row, at] + (query + distance[head]) @ key[at]
                    scores.append(score / 2)
                    values_heard.append(v[row, at])
                wanted = torch.stack(scores).softmax(0) @ torch.stack(values_heard)
                torch.testing.assert_close(heard[start + i, at], wanted)
        start += length


@pytest.mark.parametrize(
    "values", [{}, {"norm_first": True}, {"relative_clip": 4}, {"relative_shared": True}]
)
def test_memory_is_as_good_as_one_long_text(values):
    """Nothing is cut off: states of segments are those of the whole, whatever the segments."""
    model = build(**values)
    ids = torch.randint(31, (3, 20))
    with torch.no_grad():
        whole = torch.stack(model.encode(next(cut(ids, [20])), states=True).states).unflatten(1, (3, 20))
        for ends in ([7, 8, 20], [10, 20], [1, 2, 3, 20]):
            memory, parts = [], []
            for part in cut(ids, ends):
                encoded = model.encode(part, memory=memory, states=True)
                parts.append(torch.stack(encoded.states).unflatten(1, (3, -1)))
                memory = encoded.memory
            torch.testing.assert_close(torch.cat(parts, dim=2), whole)


def test_same_length_makes_each_piece_hear_as_many():
    """Of one layer: what stands `memory` pieces before or earlier changes nothing, what stands nearer does."""
    model = build(layers=1, memory=4, same_length=True)
    ids = torch.randint(31, (1, 12))
    other = ids.clone()
    other[0, 3] = (other[0, 3] + 1) % 31
    with torch.no_grad():
        states = [model.encode(next(cut(x, [12]))).last_TD for x in (ids, other)]
        parted = [list(cut(x, [5, 12])) for x in (ids, other)]
        later = [model.encode(b, memory=model.encode(a).memory).last_TD for a, b in parted]
    changed = (states[0] != states[1]).any(1)
    assert changed.tolist() == [3 <= place < 7 for place in range(12)]
    torch.testing.assert_close(later[0], states[0][5:])
    torch.testing.assert_close(later[1], states[1][5:])


@given(LENGTHS, st.integers(0, 7))
@settings(deadline=None, max_examples=40)
def test_nothing_is_heard_of_what_follows(lengths, memory):
    """Exactly nothing, in ragged batches and with memory."""
    model = build(layers=1)
    torch.manual_seed(2)
    packed = batch(*lengths)
    held = [torch.randn(len(lengths), memory, 8, dtype=torch.float64)] if memory else []
    places = Packing.of(lengths).positions_T
    other = torch.where(places >= 3, (packed["pieces"] + 1) % 31, packed["pieces"])
    with torch.no_grad():
        one = model.encode(packed, memory=held).last_TD
        two = model.encode({**packed, "pieces": other}, memory=held).last_TD
    assert torch.equal(one[places < 3], two[places < 3])
    assert not (one[places >= 3] == two[places >= 3]).all(1).any()


def test_memory_carries_no_gradient():
    model = build().train()
    first, second = batch(5, 5), batch(4, 4)
    encoded = model.encode(first)
    assert not any(x.requires_grad for x in encoded.memory)
    given = [x.clone().requires_grad_() for x in encoded.memory]
    model.encode(second, memory=given).last_TD.sum().backward()
    assert all(x.grad is None for x in given)
    words = model.encoder.embed.adaptive_words.tables[0].weight.grad
    only_first = sorted(set(first["pieces"].tolist()) - set(second["pieces"].tolist()))
    assert only_first
    assert not words[only_first].any()


@given(LENGTHS, st.integers(0, 6), st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_what_is_remembered(lengths, held, most):
    """The last pieces of memory and input, of each sequence equally many."""
    packing = Packing.of(lengths)
    memory = [torch.randn(len(lengths), held, 2)] if held else []
    state = torch.randn(packing.total, 2)
    (new,) = remember([state], memory, packing, most)
    kept = min(most, held + min(lengths))
    assert new.shape == (len(lengths), kept, 2)
    for number, part in enumerate(state.split(lengths)):
        whole = torch.cat([memory[0][number], part]) if held else part
        assert torch.equal(new[number], whole[len(whole) - kept :])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans())
@settings(deadline=None, max_examples=30)
def test_padded_and_packed_agree(lengths, left):
    """Ragged rows, padded on either side, with what came before."""
    model = build(heads=HeadsConfig(pooler=False, mlm=True), cutoffs=(9, 20), cutoff_divisor=2)
    torch.manual_seed(3)
    rows, longest = len(lengths), max(lengths)
    place = torch.arange(longest)
    mask = torch.stack([place >= longest - n if left else place < n for n in lengths])
    ids = torch.randint(31, (rows, longest))
    before = torch.randint(31, (rows, 3))
    packed = {"pieces": ids[mask], "lengths": mask.sum(1)}
    with torch.no_grad():
        mems = model(before).mems
        out = model(ids, mask.long(), mems=mems)
        encoded = model.encode(packed, memory=mems)
        alone = [model(row[kept][None], mems=[x[n : n + 1] for x in mems])
                 for n, (row, kept) in enumerate(zip(ids, mask, strict=True))]  # fmt: skip
    assert torch.equal(out.last_hidden_state[mask], encoded.last_TD)
    torch.testing.assert_close(
        out.last_hidden_state[mask], torch.cat([x.last_hidden_state[0] for x in alone])
    )
    torch.testing.assert_close(out.logits[mask], torch.cat([x.logits[0] for x in alone]))
    for layer, (mine, theirs) in enumerate(zip(out.mems, encoded.memory, strict=True)):
        assert torch.equal(mine, theirs)
        for n, one in enumerate(alone):
            torch.testing.assert_close(mine[n], one.mems[layer][0][-mine.shape[1] :])


def test_documents_in_one_sequence_may_be_kept_apart():
    model = build()
    packed = batch(8)
    groups = torch.tensor([0] * 5 + [1] * 3)
    allowed = same_group(Packing.of([8]), groups)
    with torch.no_grad():
        both = model.encode({**packed, "allowed": allowed}).last_TD
        second = model.encode({"pieces": packed["pieces"][5:], "lengths": torch.tensor([3])}).last_TD
    torch.testing.assert_close(both[5:], second)
    with pytest.raises(ValueError, match="may hear nothing"):
        model.encode({**packed, "allowed": torch.zeros(64, dtype=torch.bool)})


def test_dropout_falls_on_what_it_should(tiny):
    """In training two passes differ, from one seed they do not, and evaluation knows none of it."""
    model = build(dropout=0.3, attention_dropout=0.2, dropout_inside=True)
    packed = batch(6, 4)
    still = model.encode(packed).last_TD
    assert torch.equal(still, model.encode(packed).last_TD)
    model.train()
    torch.manual_seed(5)
    one, two = model.encode(packed).last_TD, model.encode(packed).last_TD
    torch.manual_seed(5)
    assert torch.equal(one, model.encode(packed).last_TD)
    assert not torch.equal(one, two)
    assert (one == 0).float().mean() == pytest.approx(0.3, abs=0.2)  # the last layer's output, too


def test_no_pieces_at_all():
    model = build()
    out = model.encode(batch(0, 0), memory=model.encode(batch(3, 3)).memory)
    assert out.last_TD.shape == (0, 8)
    assert out.memory[0].shape == (2, 3, 8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": [torch.zeros(2, 3, 8)]}, "it must be 2 of"),
        ({"memory": [torch.zeros(1, 3, 8)] * 2}, r"it must be 2 of \(2, 3, 8\)"),
        ({"memory": [torch.zeros(2, 3, 8), torch.zeros(2, 4, 8)]}, "one a layer"),
        ({"scores": [0]}, "neither places nor scores"),
    ],
)
def test_memory_that_does_not_fit_is_explained(given, message):
    with pytest.raises(ValueError, match=message):
        build().encode(batch(2, 2), **given)


def test_what_position_xl_cannot_do_is_said(tiny):
    ids = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="neither places nor scores"):
        build()(ids, position_ids=torch.arange(3)[None])
    with pytest.raises(ValueError, match="not exported"):
        build().forward_padded(ids)
    with pytest.raises(ValueError, match="hears nothing"):
        build(heads=HeadsConfig(pooler=False, task="classify", outputs=2))
    with pytest.raises(ValueError, match="memory needs position 'xl'"):
        build_model(tiny(), HeadsConfig(), seed=0)(ids, mems=[torch.zeros(1, 2, 8)])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": -1}, "must not be negative"),
        ({"memory": 0, "same_length": True}, "same_length without memory"),
        ({"position": "learned"}, "memory is 40; it needs position 'xl'"),
        ({"width": 9, "heads": 3}, "an even width"),
    ],
)
def test_configs_that_do_not_fit(values, message):
    with pytest.raises(ValueError, match=message):
        small(**values)
