"""albert_zh's form against a second, plain computation from its checkpoint's own names: every way of sharing, both
orders of the norms, and that it is never taken for Google's."""

# Shapes: B rows, L columns, V pieces, E embedding width, D width, F inner width, H heads, N head width.
from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from fenghuo.errors import ModelError
from fenghuo.models.folder import fill
from fenghuo.models.recognize import recognize
from fenghuo.models.released.stored import Stored

V, E, D, F, HEADS, LAYERS = 29, 6, 12, 20, 3, 3
SHARING = ("all", "attention", "ffn", "none")
CONFIG = {"hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_act": "gelu"}
CONFIG |= {"embedding_size": E, "vocab_size": V, "intermediate_size": F, "type_vocab_size": 2}


def scopes(sharing, layer):
    """Where modeling.py and its pre-norm function keep a layer's attention, inner map and outer map."""
    shared, own = "bert/encoder/layer_shared", f"bert/encoder/layer_{layer}"
    return {
        "all": (f"{shared}/attention", f"{shared}/intermediate", f"{shared}/output"),
        "attention": (f"{shared}/attention", f"{shared}/intermediate_{layer}", f"{shared}/output_{layer}"),
        "ffn": (f"{shared}/attention_{layer}", f"{shared}/intermediate", f"{shared}/output"),
        "none": (f"{own}/attention", f"{own}/intermediate", f"{own}/output"),
    }[sharing]


def checkpoint(sharing):
    """Random arrays under the names of a TensorFlow checkpoint; kernels are (in, out)."""
    generator = torch.Generator().manual_seed(7)
    made = {}

    def add(name, *shape):
        made.setdefault(name, torch.randn(shape, generator=generator) * 0.4)

    def dense(scope, size_in, size_out):
        add(f"{scope}/kernel", size_in, size_out)
        add(f"{scope}/bias", size_out)

    def norm(scope, size):
        add(f"{scope}/gamma", size)
        add(f"{scope}/beta", size)

    add("bert/embeddings/word_embeddings", V, E)
    add("bert/embeddings/word_embeddings_2", E, D)
    add("bert/embeddings/position_embeddings", 40, D)
    add("bert/embeddings/token_type_embeddings", 2, D)
    norm("bert/embeddings/LayerNorm", D)
    for layer in range(LAYERS):
        attention, inner, outer = scopes(sharing, layer)
        for part in ("query", "key", "value"):
            dense(f"{attention}/self/{part}", D, D)
        dense(f"{attention}/output/dense", D, D)
        norm(f"{attention}/output/LayerNorm", D)
        dense(f"{inner}/dense", D, F)
        dense(f"{outer}/dense", F, D)
        norm(f"{outer}/LayerNorm", D)
    dense("bert/pooler/dense", D, D)
    dense("cls/predictions/transform/dense", D, D)
    norm("cls/predictions/transform/LayerNorm", D)
    add("cls/predictions/output_bias", V)
    add("cls/seq_relationship/output_weights", 2, D)
    add("cls/seq_relationship/output_bias", 2)
    add("bert/embeddings/word_embeddings/adam_m", V, E)
    add("global_step")
    return made


def stored(arrays):
    shapes = {name: tuple(x.shape) for name, x in arrays.items()}
    return Stored(path=Path("model.ckpt"), format="tensorflow", shapes=shapes, read=arrays.__getitem__)


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Plain:
    """The formulas, one array at a time, over a padded batch."""

    def __init__(self, arrays, sharing, norm_first):
        self.a, self.sharing, self.norm_first = arrays, sharing, norm_first

    def dense(self, scope, x):
        return x @ self.a[f"{scope}/kernel"] + self.a[f"{scope}/bias"]

    def norm(self, scope, x):
        mean = x.mean(-1, keepdim=True)
        spread = ((x - mean) ** 2).mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt(spread + 1e-12) * self.a[f"{scope}/gamma"] + self.a[f"{scope}/beta"]

    def attend(self, scope, x, mask):
        rows, length, _ = x.shape
        q, k, v = (
            self.dense(f"{scope}/self/{part}", x).view(rows, length, HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        score = q @ k.mT / math.sqrt(D // HEADS) + (1 - mask[:, None, None, :]) * -10000.0
        return self.dense(f"{scope}/output/dense", (score.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def states(self, ids, mask, segments):
        words = self.a["bert/embeddings/word_embeddings"][ids] @ self.a["bert/embeddings/word_embeddings_2"]
        x = words + self.a["bert/embeddings/token_type_embeddings"][segments]
        x = self.norm(
            "bert/embeddings/LayerNorm", x + self.a["bert/embeddings/position_embeddings"][: ids.shape[1]]
        )
        out = [x]
        for layer in range(LAYERS):
            attention, inner, outer = scopes(self.sharing, layer)
            if self.norm_first:
                x = x + self.attend(attention, self.norm(f"{attention}/output/LayerNorm", x), mask)
                within = gelu(self.dense(f"{inner}/dense", self.norm(f"{outer}/LayerNorm", x)))
                x = x + self.dense(f"{outer}/dense", within)
            else:
                x = self.norm(f"{attention}/output/LayerNorm", x + self.attend(attention, x, mask))
                within = gelu(self.dense(f"{inner}/dense", x))
                x = self.norm(f"{outer}/LayerNorm", x + self.dense(f"{outer}/dense", within))
            out.append(x)
        return out

    def mlm(self, x):
        x = gelu(self.dense("cls/predictions/transform/dense", x))
        x = (
            self.norm("cls/predictions/transform/LayerNorm", x)
            @ self.a["bert/embeddings/word_embeddings_2"].T
        )
        return x @ self.a["bert/embeddings/word_embeddings"].T + self.a["cls/predictions/output_bias"]

    def pair(self, x):
        pooled = torch.tanh(self.dense("bert/pooler/dense", x[:, 0]))
        return (
            pooled @ self.a["cls/seq_relationship/output_weights"].T
            + self.a["cls/seq_relationship/output_bias"]
        )


@pytest.fixture
def batch():
    torch.manual_seed(1)
    mask = (torch.arange(17) < torch.tensor([17, 9, 1])[:, None]).float()
    return torch.randint(V, (3, 17)), mask, torch.randint(2, (3, 17))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("sharing", SHARING)
def test_states_and_heads_and_gradients_are_those_of_the_formulas(sharing, norm_first, batch):
    arrays = checkpoint(sharing)
    values = {**CONFIG, "ln_type": "preln" if norm_first else "postln"}
    found = recognize(stored(arrays), values, Path("albert_config.json"))
    assert found.family.name == "albert_zh"
    assert found.contradictions == found.weights.unexpected == ()
    assert set(found.weights.dropped) == {"global_step", "bert/embeddings/word_embeddings/adam_m"}
    model, left = fill(found)
    assert left == ()
    ids, mask, segments = batch
    plain_arrays = {name: x.clone().requires_grad_() for name, x in arrays.items()}
    plain = Plain(plain_arrays, sharing, norm_first)
    wanted = plain.states(ids, mask, segments)

    held = mask.bool()
    flat = {"pieces": ids[held], "segments": segments[held], "lengths": held.sum(1)}
    encoded = model.train().encode(flat, states=True)  # no dropout in any of its configs
    for mine, theirs in zip(encoded.states, wanted, strict=True):
        torch.testing.assert_close(mine, theirs[held], rtol=0, atol=1e-5)
    out = model(ids, mask, segments)
    torch.testing.assert_close(out.logits[held], plain.mlm(wanted[-1])[held], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.pair_logits, plain.pair(wanted[-1]), rtol=0, atol=1e-5)

    loss = out.logits[held].log_softmax(-1)[:, 3].sum() + out.pair_logits.log_softmax(-1)[:, 0].sum()
    theirs = plain.mlm(wanted[-1])[held].log_softmax(-1)[:, 3].sum()
    (theirs + plain.pair(wanted[-1]).log_softmax(-1)[:, 0].sum()).backward()
    loss.backward()
    for name, parameter in model.named_parameters():
        source = found.weights.sources[name]
        grad = plain_arrays[source.name].grad
        grad = grad.T if source.transposed else grad
        scale = max(float(grad.norm()), 0.1)
        torch.testing.assert_close(parameter.grad / scale, grad / scale, rtol=0, atol=1e-4, msg=name)


def test_a_pre_norm_classifier_normalizes_the_pooled_vector(batch):
    arrays = checkpoint("all")
    arrays |= {"output_weights": torch.randn(2, D), "output_bias": torch.randn(2)}
    arrays |= {"LayerNorm/gamma": torch.randn(D), "LayerNorm/beta": torch.randn(D)}
    values = {**CONFIG, "ln_type": "preln", "architectures": ["albert_zhForSequenceClassification"]}
    model, _ = fill(recognize(stored(arrays), values, Path("config.json")))
    plain = Plain(arrays, "all", True)
    pooled = torch.tanh(plain.dense("bert/pooler/dense", plain.states(*batch)[-1][:, 0]))
    wanted = plain.norm("LayerNorm", pooled) @ arrays["output_weights"].T + arrays["output_bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(*batch).logits, wanted, rtol=0, atol=1e-5)


def test_depth_and_heads_that_no_shape_shows_are_asked_for():
    with pytest.raises(ModelError, match="nothing says how many layers"):
        recognize(stored(checkpoint("all")), {}, Path("model.ckpt"))
