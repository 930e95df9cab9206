"""Make the golden values, with transformers 4.57.6 (the last release with NEZHA). Knows nothing of fenghuo.

    .venv-reference/bin/python tests/parity/regenerate.py --out DIR [--base]

Writes one model folder a case, with random weights, and `values.safetensors` beside them: inputs, and what
transformers makes of them. The committed folder `tests/parity/golden` was made by this script; `--base` adds models
of base width, too large to commit, for `make parity`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import BertConfig, BertForPreTraining, NezhaConfig, NezhaForPreTraining

LENGTHS = (1, 7, 64, 65, 128, 300, 600)
RAGGED = (130, 70, 9, 1)  # rows of one batch, in pieces
KEPT = 24  # positions of a case whose values are written, to keep the committed files small
SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
BASE = {"hidden_size": 768, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 3072}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def models(base: bool) -> dict[str, torch.nn.Module]:
    """Random models, by case. NEZHA's length is capped by its stored table there: hence 700 positions."""
    kinds = {
        "nezha-64": (NezhaConfig, NezhaForPreTraining, {"max_relative_position": 64}),
        "nezha-127": (NezhaConfig, NezhaForPreTraining, {"max_relative_position": 127}),
        "bert": (BertConfig, BertForPreTraining, {"attn_implementation": "eager"}),
    }
    made = {}
    for name, (config, model, more) in kinds.items():
        common = {"vocab_size": 101, "max_position_embeddings": 700, **NO_DROPOUT, **more}
        made[name] = model(config(**SMALL, **common))
        if base and name != "nezha-127":
            made[f"{name}-base"] = model(config(**BASE, **common))
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


def cases() -> dict[str, dict[str, torch.Tensor]]:
    """Inputs by case: rows of one length, and ragged batches padded on either side and with holes.

    Never piece 0: transformers gives the padding piece's row no gradient where it is read, fenghuo does.
    """
    out = {}
    for length in LENGTHS:
        ids = torch.randint(1, 101, (2, length))
        out[f"length-{length}"] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    ids = torch.randint(1, 101, (len(RAGGED), max(RAGGED)))
    column = torch.arange(max(RAGGED))
    right = torch.stack([column < n for n in RAGGED]).long()
    holes = right * (torch.rand(right.shape) < 0.8)
    holes[:, 0] = 1
    for name, mask in (("right", right), ("left", right.flip(1)), ("holes", holes)):
        out[f"padded-{name}"] = {"input_ids": ids, "attention_mask": mask}
    for case in out.values():
        case["token_type_ids"] = torch.randint(2, case["input_ids"].shape)
    return out


def positions_kept(mask: torch.Tensor) -> torch.Tensor:
    """(K, 2) row and column of the values that are written: the first and last ones, and some between."""
    there = mask.nonzero()
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
    values["mlm"] = out.prediction_logits[rows[:8], columns[:8]]
    values["pair"] = out.seq_relationship_logits
    base = model.nezha if hasattr(model, "nezha") else model.bert
    with torch.no_grad():
        values["pooled"] = base(**case).pooler_output
    if gradients:
        values |= gradients_of(model, case)
    return values


def gradients_of(model: torch.nn.Module, case: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of the summed MLM loss of all pieces and NSP loss of all rows: each gradient's norm and 32 of its numbers."""
    labels, pairs = torch.randint(101, case["input_ids"].shape), torch.randint(2, case["input_ids"].shape[:1])
    model.train().zero_grad()
    out = model(**case)
    asked = case["attention_mask"].bool()
    loss = F.cross_entropy(out.prediction_logits[asked], labels[asked], reduction="sum")
    loss = loss + F.cross_entropy(out.seq_relationship_logits, pairs, reduction="sum")
    loss.backward()
    values = {"labels": labels, "pairs": pairs, "loss": loss.detach()}
    for name, parameter in model.named_parameters():
        flat = parameter.grad.flatten()
        values[f"gradient.{name}.norm"] = flat.norm()
        values[f"gradient.{name}.some"] = flat[:: max(1, len(flat) // 32)][:32].clone()
    return values


def for_file(x: torch.Tensor) -> torch.Tensor:
    """A copy of its own; whole numbers in 16 bits."""
    return (x if x.is_floating_point() else x.to(torch.int16)).clone(memory_format=torch.contiguous_format)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", action="store_true", help="also models of base width")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    for name, model in models(args.base).items():
        randomize(model)
        folder = args.out / name
        model.save_pretrained(folder)
        values = {}
        for case, inputs in cases().items():
            found = record(model, inputs, gradients=case in ("length-128", "padded-right"))
            values |= {f"{case}/{key}": for_file(x) for key, x in (inputs | found).items()}
        save_file(values, folder / "values.safetensors")
        print(f"{folder}: {len(values)} values", flush=True)


if __name__ == "__main__":
    main()
