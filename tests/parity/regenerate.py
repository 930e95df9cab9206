"""Make the golden values, with transformers 4.57.6 (the last release with NEZHA). Knows nothing of fenghuo.

A model of each family that transformers knows; UniLM is its BERT with six segments and (B, L, L) masks.

    .venv-reference/bin/python tests/parity/regenerate.py --out DIR [--base]

Writes one model folder a case, with random weights, and `values.safetensors` beside them: inputs, and what
transformers makes of them. The committed folder `tests/parity/golden` was made by this script; `--base` adds models
of base width, too large to commit, for `make parity`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    BertConfig,
    BertForPreTraining,
    ErnieConfig,
    ErnieForPreTraining,
    NezhaConfig,
    NezhaForPreTraining,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMConfig,
    XLMWithLMHeadModel,
)

LENGTHS = (1, 7, 64, 65, 128, 300, 600)
RAGGED = (130, 70, 9, 1)  # rows of one batch, in pieces
SHORT = (40, 22, 9, 1)  # where masks are squares
KEPT = 24  # positions of a case whose values are written, to keep the committed files small
PIECES = 101
SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
BASE = {"hidden_size": 768, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 3072}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
COMMON = {"vocab_size": PIECES, "max_position_embeddings": 700, **NO_DROPOUT}
GRADIENTS = ("length-128", "padded-right", "padded-sequence-to-sequence")
EAGER = {"attn_implementation": "eager"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of transformers, and what its inputs and outputs are called."""

    config: Any
    model: Any
    values: Mapping[str, Any]
    base: bool = False
    """Made at base width too, with `--base`."""
    lengths: tuple[int, ...] = (7, 65)
    ids: Mapping[str, int] = field(default_factory=lambda: {"token_type_ids": 2})
    """Further ids and how many of each there are."""
    pad: int = 0
    squares: bool = False
    """Its masks are (B, L, L), of UniLM's four kinds."""


XLM_NAMES = {"emb_dim": 48, "n_layers": 3, "n_heads": 4, "dropout": 0.0, "attention_dropout": 0.0}
KINDS = {
    "nezha-64": Kind(
        config=NezhaConfig,
        model=NezhaForPreTraining,
        values={
            **SMALL,
            **COMMON,
            "max_relative_position": 64,
        },  # its stored table caps the length: 700 positions
        base=True,
        lengths=LENGTHS,
    ),
    "nezha-127": Kind(
        config=NezhaConfig,
        model=NezhaForPreTraining,
        values={**SMALL, **COMMON, "max_relative_position": 127},
        lengths=LENGTHS,
    ),
    "bert": Kind(
        config=BertConfig,
        model=BertForPreTraining,
        values={**SMALL, **COMMON, **EAGER},
        base=True,
        lengths=LENGTHS,
    ),
    "unilm": Kind(
        config=BertConfig,
        model=BertForPreTraining,
        values={**SMALL, **COMMON, **EAGER, "type_vocab_size": 6},
        ids={"token_type_ids": 6},
        lengths=(),
        squares=True,
    ),
    "roberta": Kind(
        config=RobertaConfig,
        model=RobertaForMaskedLM,
        values={**SMALL, **COMMON, **EAGER, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        base=True,
        ids={},
        pad=1,
    ),
    "albert": Kind(
        config=AlbertConfig,
        model=AlbertForPreTraining,
        values={**SMALL, **COMMON, **EAGER, "embedding_size": 16, "classifier_dropout_prob": 0.0},
        base=True,
    ),
    "albert-groups": Kind(
        config=AlbertConfig,
        model=AlbertForPreTraining,
        values={
            **{**SMALL, **COMMON, **EAGER, "embedding_size": 16, "classifier_dropout_prob": 0.0},
            **{"num_hidden_layers": 4, "num_hidden_groups": 2, "hidden_act": "gelu"},
        },
    ),
    "ernie": Kind(
        config=ErnieConfig,
        model=ErnieForPreTraining,
        values={
            **{
                **SMALL,
                **COMMON,
                **EAGER,
                "type_vocab_size": 4,
                "use_task_id": True,
                "task_type_vocab_size": 3,
            },
            **{"hidden_act": "relu", "layer_norm_eps": 1e-5, "max_position_embeddings": 513},
        },
        ids={"token_type_ids": 4, "task_type_ids": 3},
    ),
    "xlm": Kind(
        config=XLMConfig,
        model=XLMWithLMHeadModel,
        values={"vocab_size": PIECES, "max_position_embeddings": 700, **XLM_NAMES, "n_langs": 5},
        ids={"langs": 5},
        pad=2,
    ),
}


def models(base: bool) -> dict[str, tuple[Kind, torch.nn.Module]]:
    """Random models, by case."""
    made = {}
    for name, kind in KINDS.items():
        made[name] = kind, kind.model(kind.config(**kind.values))
        if base and kind.base:
            made[f"{name}-base"] = kind, kind.model(kind.config(**{**kind.values, **BASE}))
    return made


def randomize(model: torch.nn.Module) -> None:
    """Weights large enough that attention is far from uniform; biases and norms that are not 0 and 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            if parameter.dim() == 1:
                parameter.add_(noise * 0.1)
            else:
                parameter.copy_(noise * min(0.1, 0.7 * parameter.shape[-1] ** -0.5))


def cases(kind: Kind) -> dict[str, dict[str, torch.Tensor]]:
    """Inputs by case: rows of one length, and ragged batches padded on either side and with holes.

    Never the padding piece where it is read: transformers gives its row no gradient, fenghuo does. Where it is
    masked it stands on the left and in holes; on the right stand other pieces, which the mask must hide too.
    """
    out = {}
    for length in kind.lengths:
        ids = draw(2, length)
        out[f"length-{length}"] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    ragged = SHORT if kind.squares else RAGGED
    ids = draw(len(ragged), max(ragged))
    column = torch.arange(max(ragged))
    right = torch.stack([column < n for n in ragged]).long()
    holes = right * (torch.rand(right.shape) < 0.8)
    holes[:, 0] = 1
    masks = squares(right, ids) if kind.squares else {"right": right, "left": right.flip(1), "holes": holes}
    for name, mask in masks.items():
        padded = name in ("left", "holes")
        shown = ids.masked_fill(mask == 0, kind.pad) if padded else ids
        out[f"padded-{name}"] = {"input_ids": shown, "attention_mask": mask}
    for case in out.values():
        for name, count in kind.ids.items():
            case[name] = torch.randint(count, case["input_ids"].shape)
    return out


def draw(*shape: int) -> torch.Tensor:
    """Pieces, none of which any family pads with."""
    return torch.randint(3, PIECES, shape)


def squares(there: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """(B, L, L) masks of UniLM's four kinds; the first third of a row is the source of sequence-to-sequence."""
    pair = (there[:, :, None] * there[:, None, :]).bool()
    place = torch.arange(there.shape[1])
    before = (place[None, :] <= place[:, None])[None]
    source = place[None] < (there.sum(1, keepdim=True) + 2) // 3
    mixed = source[:, None, :] | (before & ~source[:, :, None])
    kinds = {
        "bidirectional": pair,
        "left-to-right": pair & before,
        "right-to-left": pair & before.mT,
        "sequence-to-sequence": pair & mixed,
    }
    return {name: square.long() for name, square in kinds.items()}


def positions_kept(mask: torch.Tensor) -> torch.Tensor:
    """(K, 2) row and column of the values that are written: the first and last ones, and some between."""
    there = (mask if mask.dim() == 2 else mask.any(2)).nonzero()
    if len(there) <= KEPT:
        return there
    some = torch.randperm(len(there))[: KEPT - 2].sort().values
    return there[torch.cat([torch.tensor([0]), some, torch.tensor([len(there) - 1])])]


def record(
    model: torch.nn.Module, case: dict[str, torch.Tensor], *, gradients: bool
) -> dict[str, torch.Tensor]:
    """What the model makes of a case: in evaluation mode, and its gradients in training mode without dropout."""
    at = positions_kept(case["attention_mask"])
    rows, columns = at.unbind(1)
    values = {"at": at}
    with torch.no_grad():
        small = case["input_ids"].shape[1] <= 7
        out = model.eval()(**case, output_hidden_states=True, output_attentions=small)
    for number, state in enumerate(out.hidden_states):
        values[f"state.{number}"] = state[rows, columns]
    if small:
        for number, attention in enumerate(out.attentions):
            values[f"attention.{number}"] = attention
    mlm, pair = heads_of(out)
    values["mlm"] = mlm[rows[:8], columns[:8]]
    if pair is not None:
        values["pair"] = pair
        with torch.no_grad():
            values["pooled"] = getattr(model, model.base_model_prefix)(**case).pooler_output
    if gradients:
        values |= gradients_of(model, case)
    return values


def heads_of(out: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """MLM logits, and NSP or SOP logits where the class has them."""
    pair = out.get("seq_relationship_logits")
    return out.get("prediction_logits", out.get("logits")), out.get("sop_logits") if pair is None else pair


def gradients_of(model: torch.nn.Module, case: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of the summed MLM loss of all pieces and NSP loss of all rows: each gradient's norm and 32 of its numbers."""
    labels, pairs = (
        torch.randint(PIECES, case["input_ids"].shape),
        torch.randint(2, case["input_ids"].shape[:1]),
    )
    model.train().zero_grad()
    mlm, pair = heads_of(model(**case))
    mask = case["attention_mask"].bool()
    asked = mask if mask.dim() == 2 else mask.any(2)
    loss = F.cross_entropy(mlm[asked], labels[asked], reduction="sum")
    if pair is not None:
        loss = loss + F.cross_entropy(pair, pairs, reduction="sum")
    loss.backward()
    values = {"labels": labels, "pairs": pairs, "loss": loss.detach()}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:  # a pooler that nothing reads
            continue
        flat = parameter.grad.flatten()
        values[f"gradient.{name}.norm"] = flat.norm()
        values[f"gradient.{name}.some"] = flat[:: max(1, len(flat) // 32)][:32].clone()
    return values


def for_file(x: torch.Tensor) -> torch.Tensor:
    """A copy of its own; whole numbers, none of which is large, in as few bits as they need."""
    small = x if x.is_floating_point() else x.to(torch.uint8 if x.numel() and x.max() < 256 else torch.int16)
    return small.clone(memory_format=torch.contiguous_format)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", action="store_true", help="also models of base width")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    for name, (kind, model) in models(args.base).items():
        randomize(model)
        folder = args.out / name
        model.save_pretrained(folder)
        values = {}
        for case, inputs in cases(kind).items():
            found = record(model, inputs, gradients=case in GRADIENTS)
            values |= {f"{case}/{key}": for_file(x) for key, x in (inputs | found).items()}
        save_file(values, folder / "values.safetensors")
        print(f"{folder}: {len(values)} values", flush=True)


if __name__ == "__main__":
    main()
