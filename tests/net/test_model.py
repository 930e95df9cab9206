from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.initial import build_model
from fenghuo.net.packing import Packing

POSITIONS = ["nezha", "learned", "none"]
ALL_HEADS = HeadsConfig(mlm=True, pair=True, task="classify", outputs=3)


def batch_of(lengths, vocab=31):
    total = sum(lengths)
    return {
        "pieces": torch.randint(vocab, (total,)),
        "segments": torch.randint(2, (total,)),
        "lengths": torch.tensor(lengths),
    }


@pytest.mark.parametrize("position", POSITIONS)
def test_padding_changes_nothing_wherever_it_stands(tiny, position):
    """Right, left and holes: what is heard of the rest depends on columns alone."""
    torch.manual_seed(0)
    model = build_model(tiny(position=position), HeadsConfig(mlm=True), seed=0).eval()
    ids, segments = torch.randint(31, (4, 20)), torch.randint(2, (4, 20))
    mask = torch.ones(4, 20, dtype=torch.long)
    mask[1, 13:], mask[2, :6] = 0, 0
    mask[3, [0, 4, 5, 17]] = 0
    with torch.no_grad():
        packed = model(ids, mask, segments)
        padded = model.forward_padded(ids, mask, segments)
        other_ids = torch.where(mask == 0, (ids + 1) % 31, ids)
        again = model(other_ids, mask, segments)
    held = mask.bool()
    torch.testing.assert_close(
        packed.last_hidden_state[held], padded.last_hidden_state[held], rtol=0, atol=1e-5
    )
    torch.testing.assert_close(packed.logits[held], padded.logits[held], rtol=0, atol=1e-5)
    assert torch.equal(packed.last_hidden_state, again.last_hidden_state)
    torch.testing.assert_close(packed.pooler_output[:2], padded.pooler_output[:2], rtol=0, atol=1e-5)


def test_the_pooler_reads_the_first_piece_that_is_there(tiny):
    model = build_model(tiny(position="nezha"), HeadsConfig(), seed=0).eval()
    ids = torch.randint(31, (1, 9))
    left = model(torch.cat([torch.zeros(1, 5, dtype=torch.long), ids], 1), torch.tensor([[0] * 5 + [1] * 9]))
    torch.testing.assert_close(left.pooler_output, model(ids).pooler_output)


def test_a_row_without_pieces_is_harmless(tiny):
    model = build_model(tiny(), HeadsConfig(), seed=0).eval()
    ids, mask = torch.randint(31, (2, 5)), torch.tensor([[0] * 5, [1] * 5])
    out = model(ids, mask)
    assert out.pooler_output.isfinite().all()
    torch.testing.assert_close(out.pooler_output[1:], model(ids[1:]).pooler_output)


@pytest.mark.parametrize("shape", [(2, 5), (0, 5), (2, 0)])
def test_a_batch_without_pieces_is_harmless(tiny, shape):
    model = build_model(tiny(position="nezha"), HeadsConfig(mlm=True), seed=0).eval()
    out = model(torch.zeros(shape, dtype=torch.long), torch.zeros(shape))
    assert out.last_hidden_state.shape == (*shape, 8)
    assert out.logits.shape == (*shape, 31)
    assert out.pooler_output.shape == (shape[0], 8)
    assert out.pooler_output.isfinite().all()


@pytest.mark.parametrize("position", POSITIONS)
def test_a_square_mask_says_who_hears_whom(tiny, position):
    torch.manual_seed(0)
    model = build_model(tiny(position=position), HeadsConfig(), seed=0).eval()
    ids = torch.randint(31, (2, 10))
    square = torch.ones(10, 10, dtype=torch.long).tril().repeat(2, 1, 1)
    square[1, 6:], square[1, :, 6:] = 0, 0
    with torch.no_grad():
        out = model(ids, square).last_hidden_state
        for length in (1, 4, 10):
            prefix = model(ids[:1, :length], square[:1, :length, :length]).last_hidden_state
            torch.testing.assert_close(out[:1, :length], prefix, rtol=0, atol=1e-5)
        short = model(ids[1:, :6], square[1:, :6, :6]).last_hidden_state
    torch.testing.assert_close(out[1:, :6], short, rtol=0, atol=1e-5)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_batch_of_one_length_is_the_same_as_each_alone(tiny, position):
    model = build_model(tiny(position=position), HeadsConfig(), seed=0).eval()
    batch = batch_of([7, 3, 12, 12, 1])
    together = model.encode(batch, states=True, scores=[0, 1])
    offset, pairs = 0, 0
    for n in batch["lengths"].tolist():
        part = slice(offset, offset + n)
        alone = model.encode(
            {
                "pieces": batch["pieces"][part],
                "segments": batch["segments"][part],
                "lengths": torch.tensor([n]),
            },
            states=True,
            scores=[0, 1],
        )
        for mine, theirs in zip(together.states, alone.states, strict=True):
            torch.testing.assert_close(mine[part], theirs, rtol=0, atol=1e-5)
        for layer in (0, 1):
            torch.testing.assert_close(
                together.scores[layer][:, pairs : pairs + n * n], alone.scores[layer], rtol=0, atol=1e-5
            )
        offset, pairs = offset + n, pairs + n * n
    assert len(together.states) == 3
    assert torch.equal(together.states[-1], together.last_TD)


def test_asking_for_scores_does_not_change_the_answer(tiny):
    model = build_model(tiny(position="nezha"), HeadsConfig(), seed=0).eval()
    batch = batch_of([5, 20])
    torch.testing.assert_close(model.encode(batch, scores=[1]).last_TD, model.encode(batch).last_TD)


def test_positions_given_are_positions_used(tiny):
    model = build_model(tiny(), HeadsConfig(), seed=0).eval()
    ids = torch.randint(31, (2, 6))
    shifted = torch.arange(6)[None] + 3
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
    mask = torch.tensor([[0] * 3 + [1] * 6]).expand(2, -1)
    torch.testing.assert_close(
        model(ids, position_ids=shifted).last_hidden_state, model(padded, mask).last_hidden_state[:, 3:]
    )


def test_nezha_reads_any_length(tiny):
    model = build_model(tiny(position="nezha", max_length=8), HeadsConfig(), seed=0).eval()
    assert model(torch.randint(31, (1, 700))).last_hidden_state.shape == (1, 700, 8)


def test_learned_positions_end(tiny):
    model = build_model(tiny(max_length=8), HeadsConfig(), seed=0).eval()
    with pytest.raises(ValueError, match=r"too long for the learned positions.*8 rows"):
        model(torch.randint(31, (1, 9)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": torch.zeros(5, dtype=torch.long)}, r"input_ids must be \(B, L\), not \(5,\)"),
        ({"input_ids": torch.zeros(1, 5)}, "input_ids must hold integers"),
        ({"input_ids": torch.full((1, 2), 31)}, "words ids: ids run from 31 to 31, the table has 31 rows"),
        ({"input_ids": torch.full((1, 2), -1)}, "words ids"),
        ({"input_ids": torch.zeros(1, 2).long(), "attention_mask": torch.ones(1, 3)}, "attention_mask is"),
        ({"input_ids": torch.zeros(1, 2).long(), "token_type_ids": torch.ones(2, 2).long()}, "segments"),
        ({"input_ids": torch.zeros(1, 2).long(), "token_type_ids": torch.full((1, 2), 2)}, "segments ids"),
        ({"input_ids": torch.zeros(1, 2).long(), "langs": torch.zeros(1, 2).long()}, "no table of languages"),
    ],
)
def test_what_does_not_fit_is_named(tiny, arguments, message):
    model = build_model(tiny(), HeadsConfig(), seed=0).eval()
    with pytest.raises(ValueError, match=message):
        model(**arguments)


@pytest.mark.parametrize("segments", [0, 1])
def test_a_model_with_fewer_than_two_segments_reads_none(tiny, segments):
    model = build_model(tiny(segments=segments), HeadsConfig(task="classify", outputs=3), seed=0).eval()
    ids = torch.randint(31, (2, 7))
    mask, given = torch.ones_like(ids), torch.randint(2, ids.shape)
    flat = {"pieces": ids.flatten(), "lengths": torch.tensor([7, 7]), "segments": given.flatten()}
    wanted = model(ids, mask).logits
    for found in (
        model(ids, mask, given).logits,
        model.forward_padded(ids, mask, given).logits,
        model.task_logits(flat),
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_roberta_counts_the_same_places_in_every_call_whatever_the_paddings_number_stands_for(tiny):
    model = build_model(tiny(first_position=2, max_length=12), HeadsConfig(task="tag", outputs=3), seed=0)
    lengths = torch.tensor([4, 0, 10, 1])
    for pieces in (torch.randint(2, 31, (15,)), torch.randint(4, (15,))):  # the second holds many a 1
        mask = torch.arange(10)[None] < lengths[:, None]
        ids = torch.zeros(4, 10, dtype=torch.long).masked_scatter(mask, pieces)
        wanted = model.eval().forward_padded(ids, mask.long()).logits[mask]
        found = model.task_logits({"pieces": pieces, "lengths": lengths})
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(model(ids, mask.long()).logits[mask], wanted, rtol=0, atol=1e-6)


def test_packed_pieces_must_fit_their_lengths(tiny):
    encoder = build_model(tiny(), HeadsConfig(), seed=0).encoder
    with pytest.raises(ValueError, match=r"pieces are \(4,\), their lengths add up to 5"):
        encoder(torch.zeros(4, dtype=torch.long), Packing.of([2, 3]))
    with pytest.raises(ValueError, match="scores of layer 2 asked of 2 layers"):
        encoder(torch.zeros(5, dtype=torch.long), Packing.of([2, 3]), scores=[2])


def test_each_head_gives_its_shape(tiny):
    model = build_model(tiny(), ALL_HEADS, seed=0).eval()
    ids = torch.randint(31, (3, 7))
    out = model(ids)
    assert out.logits.shape == (3, 3)
    assert out.pair_logits.shape == (3, 2)
    assert out.pooler_output.shape == (3, 8)
    tagger = build_model(tiny(), HeadsConfig(pooler=False, task="tag", outputs=5), seed=0).eval()
    assert tagger(ids).logits.shape == (3, 7, 5)
    assert tagger(ids).pooler_output is None
    assert build_model(tiny(), HeadsConfig(mlm=True), seed=0).eval()(ids).logits.shape == (3, 7, 31)
    assert build_model(tiny(), HeadsConfig(), seed=0).eval()(ids).logits is None


def test_a_span_boundary_head_reads_one_table_of_words(tiny):
    config = tiny(position="xl", adaptive=True, cutoffs=(5,))
    with pytest.raises(ValueError, match="needs one table of words"):
        build_model(config, HeadsConfig(pooler=False, span_boundary=True), seed=0)
    model = build_model(tiny(), HeadsConfig(mlm=True, span_boundary=True), seed=0)
    left, right = torch.randn(2, 5, 8)
    assert model.span_boundary(left, right, torch.arange(5)).shape == (5, 31)
    # The words are counted once, wherever they are asked for.
    assert sum(weight.shape == (31, 8) for weight in model.parameters()) == 1


def test_task_logits_are_those_of_the_padded_call(tiny):
    for heads in (HeadsConfig(task="classify", outputs=3), HeadsConfig(pooler=False, task="tag", outputs=3)):
        model = build_model(tiny(position="nezha"), heads, seed=0).eval()
        ids = torch.randint(31, (2, 6))
        flat = model.task_logits({"pieces": ids.flatten(), "lengths": torch.tensor([6, 6])})
        torch.testing.assert_close(flat, model(ids).logits.flatten(0, -2))


def test_a_head_that_is_absent_is_named(tiny):
    model = build_model(tiny(), HeadsConfig(pooler=False), seed=0)
    with pytest.raises(ValueError, match="no pooler"):
        model.pooled(model.encode(batch_of([2])))
    with pytest.raises(ValueError, match="no task head"):
        model.task_logits(batch_of([2]))


def test_the_start_is_bert_s():
    config = EncoderConfig(vocab=500, layers=2, heads=4, width=128)
    model = build_model(config, ALL_HEADS, seed=0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            assert float(parameter.detach().abs().max()) <= 0.04, name
    words = model.encoder.embed.words.weight.detach()
    # A normal of 0.02 that is cut at two deviations has one of 0.0176.
    assert float(words.std()) == pytest.approx(0.0176, rel=0.02)
    assert float(words[0].std()) == pytest.approx(0.0176, rel=0.3)


def test_the_first_loss_is_the_log_of_the_choices(tiny):
    model = build_model(tiny(vocab=400), ALL_HEADS, seed=0).eval()
    out = model.encode(batch_of([30, 30], vocab=400))
    loss = F.cross_entropy(model.mlm(out.last_TD), torch.randint(400, (60,)))
    assert float(loss.detach()) == pytest.approx(math.log(400), rel=0.02)


def test_the_same_seed_the_same_bits(tiny):
    def weights(seed):
        return build_model(tiny(), ALL_HEADS, seed=seed).state_dict()

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(
        one["encoder.embed.tables.words.weight"], other["encoder.embed.tables.words.weight"]
    )


def test_the_word_table_is_one_parameter_and_follows_a_copy(tiny):
    model = build_model(tiny(), HeadsConfig(mlm=True), seed=0)
    assert sum(p.shape == (31, 8) for p in model.parameters()) == 1
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.encoder.embed.words.weight.zero_()
    assert not twin.mlm(torch.randn(2, 8)).any()
    assert model.mlm(torch.randn(2, 8)).any()


def test_the_distance_table_is_not_in_the_state_and_moves_with_the_model(tiny):
    model = build_model(tiny(position="nezha"), HeadsConfig(), seed=0)
    assert not [name for name in model.state_dict() if "distance" in name]
    assert model.double().encoder.distances.dtype == torch.float64


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_layers_share_weights_by_group(tiny, groups):
    model = build_model(tiny(layers=4, layer_groups=groups), HeadsConfig(), seed=0).eval()
    assert len(model.encoder.attentions) == len(model.encoder.feeds) == groups
    states = model.encode(batch_of([6]), states=True, scores=range(4)).states
    assert len(states) == 5


def test_a_narrow_embedding_is_widened(tiny):
    model = build_model(tiny(embed_width=4), HeadsConfig(mlm=True), seed=0).eval()
    assert model(torch.randint(31, (1, 5))).logits.shape == (1, 5, 31)


@pytest.mark.slow
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_a_step_is_deterministic_under_torch_s_strict_mode(tiny_step, lengths):
    torch.manual_seed(0)
    batch = batch_of(lengths)
    torch.use_deterministic_algorithms(True)
    try:
        assert all(torch.equal(a, b) for a, b in zip(tiny_step(batch), tiny_step(batch), strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def tiny_step():
    config = EncoderConfig(vocab=31, layers=2, heads=2, width=8, position="nezha", relative_clip=4)

    def step(batch):
        model = build_model(config, ALL_HEADS, seed=0)
        torch.manual_seed(1)
        encoded = model.encode(batch, states=True, scores=[1])
        loss = model.mlm(encoded.last_TD).logsumexp(-1).sum() + model.task_logits(batch, encoded).sum()
        loss = loss + model.pair(model.pooled(encoded)).square().sum() + encoded.scores[1].square().mean()
        loss.backward()
        return [loss.detach(), *(p.grad for p in model.parameters())]

    return step


@pytest.mark.parametrize("position", POSITIONS)
def test_gradients_agree_with_the_padded_layout(tiny, position):
    config = tiny(position=position, dropout=0.0, attention_dropout=0.0)
    model = build_model(config, HeadsConfig(mlm=True), seed=0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    ids, mask = torch.randint(31, (3, 14)), torch.ones(3, 14, dtype=torch.long)
    mask[0, 9:] = 0
    grads = []
    for call in (model, model.forward_padded):
        model.zero_grad()
        call(ids, mask).logits[mask.bool()].logsumexp(-1).sum().backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-4)


def test_autocast_in_bfloat16_trains(tiny):
    model = build_model(tiny(position="nezha"), ALL_HEADS, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = model.encode(batch_of([20, 4, 9]), states=True, scores=[0, 1])
        loss = model.mlm(encoded.last_TD).float().logsumexp(-1).mean() + encoded.scores[0].float().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for n, p in model.named_parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 10, "heads": 3}, "width 10 is not a multiple of heads 3"),
        ({"layers": 4, "layer_groups": 3}, "layers 4 is not a multiple of layer_groups 3"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"vocab": 0}, "vocab is 0"),
        ({"segments": -1}, "segments is -1"),
        ({"width": 6, "heads": 2, "position": "nezha"}, "even head width"),
        ({"width": 8, "embed_width": 16}, "embed_width 16 is wider than width 8"),
    ],
)
def test_values_that_do_not_fit_are_named(tiny, values, message):
    with pytest.raises(ValueError, match=message):
        tiny(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "tag"}, "outputs >= 1"),
        ({"outputs": 2}, "without a task head"),
        ({"pooler": False, "pair": True}, "reads the pooler, which is absent"),
    ],
)
def test_heads_that_do_not_fit_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        HeadsConfig(**values)
