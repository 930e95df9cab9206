"""ERNIE of THU against a second implementation, written from its formulas, padded, with -10000 for what is masked.

No package has the model, so this file does. It knows tensors by the names of released files and nothing of fenghuo's
modules.
"""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from fenghuo.models import FAMILIES
from fenghuo.models.build import build
from fenghuo.models.folder import save_model
from fenghuo.net.config import HeadsConfig

TYPES = ("sim", "mix", "norm", "sim", "norm")
VALUES = {"layers": 5, "width": 48, "heads": 4, "inner_width": 64, "layer_types": TYPES, "max_length": 64}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
ALL = HeadsConfig(mlm=True, pair=True, entity=True)
WITHIN = 1e-5


class Plain:
    """The formulas over a dict of tensors as a released file names them."""

    def __init__(self, tensors, types, heads):
        self.tensors, self.types, self.heads = tensors, types, heads

    def linear(self, name, x):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name, x):
        mean = x.mean(-1, keepdim=True)
        spread = (x - mean).square().mean(-1, keepdim=True)
        unit = (x - mean) / (spread + 1e-12).sqrt()
        return unit * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def attention(self, name, ending, heads, x, mask):
        """Row by row and head by head; `ending` is `_ent` for the entities' own."""
        q, k, v = (
            self.linear(f"{name}.self{ending}.{part}", x).chunk(heads, -1)
            for part in ("query", "key", "value")
        )
        heard = []
        for head in range(heads):
            score = q[head] @ k[head].transpose(1, 2) / math.sqrt(q[head].shape[-1])
            heard.append((score + (1.0 - mask.float())[:, None] * -10000.0).softmax(-1) @ v[head])
        out = self.linear(f"{name}.output{ending}.dense", torch.cat(heard, -1))
        return self.norm(f"{name}.output{ending}.LayerNorm", out + x)

    def states(self, ids, segments, mask, entities, entity_mask):
        """[(pieces, entities)] of the embedding and of each layer."""
        tables = "bert.embeddings"
        x = self.tensors[f"{tables}.word_embeddings.weight"][ids]
        x = x + self.tensors[f"{tables}.position_embeddings.weight"][: ids.shape[1]]
        x = self.norm(
            f"{tables}.LayerNorm", x + self.tensors[f"{tables}.token_type_embeddings.weight"][segments]
        )
        e = entities
        out = [(x, e)]
        for n, kind in enumerate(self.types):
            layer = f"bert.encoder.layer.{n}"
            x = self.attention(f"{layer}.attention", "", self.heads, x, mask)
            if kind == "norm":
                e = self.attention(f"{layer}.attention", "_ent", 4, e, entity_mask)
            summed = self.linear(f"{layer}.intermediate.dense", x)
            if kind != "sim":
                e = e * entity_mask.float()[..., None]
                summed = summed + self.linear(f"{layer}.intermediate.dense_ent", e)
            inner = summed * 0.5 * (1.0 + torch.erf(summed / math.sqrt(2.0)))
            if kind != "sim":
                e = self.norm(
                    f"{layer}.output.LayerNorm_ent", self.linear(f"{layer}.output.dense_ent", inner) + e
                )
            x = self.norm(f"{layer}.output.LayerNorm", self.linear(f"{layer}.output.dense", inner) + x)
            out.append((x, e))
        return out

    def transformed(self, name, x):
        return self.norm(f"{name}.transform.LayerNorm", F.gelu(self.linear(f"{name}.transform.dense", x)))

    def mlm(self, x):
        words = self.tensors["bert.embeddings.word_embeddings.weight"]
        return self.transformed("cls.predictions", x) @ words.T + self.tensors["cls.predictions.bias"]

    def pair(self, x):
        return self.linear("cls.seq_relationship", torch.tanh(self.linear("bert.pooler.dense", x[:, 0])))

    def entity(self, x, candidates):
        return self.transformed("cls.predictions_ent", x) @ candidates.T


def made(heads=ALL, **values):
    model = build(
        None, family="ernie_thu", values={**VALUES, **NO_DROPOUT, **values}, vocab=101, heads=heads, seed=0
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn_like(p)
            p.copy_(p + noise * 0.1 if p.dim() == 1 else noise * min(0.1, 0.7 * p.shape[-1] ** -0.5))
    return model


def inputs(kind):
    """A padded batch; as the released code makes them, or with masks it never makes."""
    torch.manual_seed(2)
    lengths = torch.tensor([9, 9, 9] if kind == "one length" else [30, 21, 20, 7, 1])
    rows, columns = len(lengths), int(lengths.max())
    mask = (torch.arange(columns) < lengths[:, None]).long()
    entity_mask = (torch.rand(rows, columns) < 0.3).long() * mask
    entity_mask[:, 0] = 1
    entities = torch.randn(rows, columns, 100)
    entities[:, 0] = 0
    entities = entities * entity_mask[..., None]
    if kind == "nothing named":  # and vectors under the mask
        entity_mask[:2] = 0
        entity_mask[-1] = 0
    return {
        "input_ids": torch.randint(101, (rows, columns)),
        "attention_mask": mask,
        "token_type_ids": torch.randint(2, (rows, columns)),
        "entities": entities,
        "entity_mask": entity_mask,
    }


def plain_of(tensors, types=TYPES):
    return Plain(tensors, types, VALUES["heads"])


def plain_states(plain, case):
    return plain.states(
        *(case[k] for k in ("input_ids", "token_type_ids", "attention_mask", "entities", "entity_mask"))
    )


def packed(case):
    held = case["attention_mask"].bool()
    names = {
        "pieces": "input_ids",
        "segments": "token_type_ids",
        "entities": "entities",
        "entity_mask": "entity_mask",
    }
    return {**{mine: case[theirs][held] for mine, theirs in names.items()}, "lengths": held.sum(1)}


def stored(model, folder):
    """The tensors of the model as a file names them."""
    save_model(model, folder)
    return load_file(folder / "model.safetensors")


KINDS = ["one length", "ragged", "nothing named"]
ORDERS = [TYPES, ("norm", "mix", "mix", "norm", "sim"), ("mix",) * 5, ("norm",) * 5, ()]


@pytest.mark.parametrize("types", ORDERS, ids=lambda types: "-".join(types) or "none")
@pytest.mark.parametrize("kind", KINDS)
def test_every_state_and_every_logit(tmp_path, near, kind, types):
    model, case = made(layer_types=types), inputs(kind)
    plain = plain_of(stored(model, tmp_path), model.config.layer_types)
    theirs, held = plain_states(plain, case), case["attention_mask"].bool()
    candidates = F.normalize(torch.randn(13, 100))  # of length 1, as TransE's
    with torch.no_grad():
        encoded = model.eval().encode(packed(case), states=True)
        assert len(encoded.states) == len(encoded.entity_states) == len(theirs) == 6
        for n, (x, e) in enumerate(theirs):
            near("ernie_thu", "states", encoded.states[n], x[held], within=WITHIN)
            near("ernie_thu", "entity states", encoded.entity_states[n], e[held], within=WITHIN)
        last = theirs[-1][0]
        for call in (model, model.forward_padded):
            out = call(**case)
            near("ernie_thu", "padded last", out.last_hidden_state[held], last[held], within=WITHIN)
            near("ernie_thu", "mlm", out.logits[held], plain.mlm(last)[held], within=WITHIN)
            near("ernie_thu", "pair", out.pair_logits, plain.pair(last), within=WITHIN)
        found = model.entity(encoded.last_TD, candidates)
        near("ernie_thu", "dEA", found, plain.entity(last, candidates)[held], within=WITHIN)


@pytest.mark.parametrize("kind", KINDS)
def test_in_float64_only_rounding_is_left(tmp_path, near, kind):
    model, case = made().eval(), inputs(kind)
    plain = plain_of({name: x.double() for name, x in stored(model, tmp_path).items()})
    case["entities"] = case["entities"].double()
    held = case["attention_mask"].bool()
    with torch.no_grad():
        encoded = model.double().encode(packed(case), states=True)
        for n, (x, e) in enumerate(plain_states(plain, case)):
            near("ernie_thu", "states, float64", encoded.states[n], x[held], within=1e-12)
            near("ernie_thu", "entity states, float64", encoded.entity_states[n], e[held], within=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_training_mode_without_dropout(tmp_path, near, kind):
    model, case = made().train(), inputs(kind)
    tensors = {name: x.requires_grad_() for name, x in stored(model, tmp_path).items()}
    plain, held = plain_of(tensors), case["attention_mask"].bool()
    labels, candidates = torch.randint(101, (int(held.sum()),)), torch.randn(13, 100)
    entities = case["entities"].requires_grad_()
    last = plain_states(plain, case)[-1][0]
    loss = F.cross_entropy(plain.mlm(last)[held], labels, reduction="sum")
    loss = loss + F.cross_entropy(plain.entity(last, candidates)[held], labels % 13, reduction="sum")
    loss = loss + plain.pair(last).sum()
    loss.backward()
    wanted, entities.grad = entities.grad, None
    encoded = model.encode(packed(case))
    mine = F.cross_entropy(model.mlm(encoded.last_TD), labels, reduction="sum")
    mine = mine + F.cross_entropy(model.entity(encoded.last_TD, candidates), labels % 13, reduction="sum")
    mine = mine + model.pair(model.pooled(encoded)).sum()
    mine.backward()
    torch.testing.assert_close(mine, loss, rtol=1e-5, atol=0)
    near("ernie_thu", "gradients of entities", entities.grad, wanted, within=1e-4)
    without = []
    for ours, parameter in model.named_parameters():
        name = FAMILIES["ernie_thu"].theirs(ours)
        theirs = tensors[name].grad
        if parameter.grad is None:
            assert theirs is None
            without.append(name)
            continue
        scale = max(float(theirs.norm()), 0.1)
        near("ernie_thu", "gradients", parameter.grad / scale, theirs / scale, within=1e-4)
    # What the last layer says of entities is asked by nobody.
    ends = [f"bert.encoder.layer.4.output.{x}" for x in ("dense_ent", "LayerNorm_ent")]
    assert sorted(without) == sorted(f"{name}.{x}" for name in ends for x in ("weight", "bias"))
    for part in ("entity_attentions.2.query", "feeds.1.entity_inner", "feeds.1.entity_outer"):
        assert model.encoder.get_submodule(part).weight.grad.any(), part


def test_text_without_entities_is_what_the_released_code_makes_of_it(tmp_path):
    """A first piece with a vector of zeros, and nothing else, wherever the padding stands."""
    model, case = made().eval(), inputs("ragged")
    plain = plain_of(stored(model, tmp_path))
    case["entities"] = torch.zeros_like(case["entities"])
    case["entity_mask"] = torch.zeros_like(case["entity_mask"])
    case["entity_mask"][:, 0] = 1
    last, held = plain_states(plain, case)[-1][0], case["attention_mask"].bool()
    three = [case[key] for key in ("input_ids", "attention_mask", "token_type_ids")]
    with torch.no_grad():
        for out in (model(*three), model.forward_padded(*three)):
            torch.testing.assert_close(out.last_hidden_state[held], last[held], rtol=0, atol=WITHIN)
        places = torch.arange(30).flip(0).expand(5, 30)
        left = model(*(x.flip(1) for x in three), position_ids=places)
        right = model(*three)
    # The first piece that is there is another one: only rows of one piece are the same.
    assert not torch.allclose(left.last_hidden_state.flip(1)[0], right.last_hidden_state[0], atol=1e-3)
    torch.testing.assert_close(left.last_hidden_state.flip(1)[4, 0], right.last_hidden_state[4, 0])
