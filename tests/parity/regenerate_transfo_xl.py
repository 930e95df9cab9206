"""Golden values of Transformer-XL from transformers 4.57.6, which newer releases do not have.

    .venv-reference/bin/python tests/parity/regenerate_transfo_xl.py --out tests/parity/golden_xl

Writes a model folder a case, with random weights and every stored copy, and `values.safetensors` beside: what the model
makes of three segments that follow each other. Knows nothing of fenghuo.

transformers computes what the authors' code does only where memory starts without pieces: its own start is zeros
that are attended to.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

_TYPE_AS = torch.Tensor.type_as


def _type_as(self: torch.Tensor, other: torch.Tensor | None = None, dtype: torch.dtype | None = None):
    """As released, the model calls `type_as(dtype=…)`, which torch does not know."""
    return self.to(dtype) if other is None else _TYPE_AS(self, other)


torch.Tensor.type_as = _type_as
from transformers import TransfoXLConfig, TransfoXLLMHeadModel  # noqa: E402

VOCAB, ROWS, SEGMENTS = 43, 2, (6, 4, 7)
SHAPE = {
    "vocab_size": VOCAB,
    "d_model": 16,
    "d_embed": 16,
    "n_head": 2,
    "d_head": 8,
    "d_inner": 18,
    "n_layer": 2,
}
CASES = {
    "untied-div2": {"cutoffs": [11, 20, 30], "div_val": 2, "untie_r": True, "mem_len": 6, "clamp_len": -1},
    "tied-div1": {"cutoffs": [11, 30], "div_val": 1, "untie_r": False, "mem_len": 10, "clamp_len": -1},
    "norm-first": {
        "cutoffs": [],
        "div_val": 1,
        "untie_r": False,
        "mem_len": 6,
        "clamp_len": 0,
        "pre_lnorm": True,
    },
    "clamp": {"cutoffs": [20], "div_val": 4, "untie_r": True, "mem_len": 8, "clamp_len": 4},
    "same-length": {"cutoffs": [20], "div_val": 2, "untie_r": True, "mem_len": 5, "clamp_len": -1},
}


def build(case: str) -> TransfoXLLMHeadModel:
    """A random model whose attention is far from uniform, with norms and biases that are not 1 and 0."""
    same_length = case == "same-length"
    config = TransfoXLConfig(**SHAPE, **CASES[case], same_length=same_length, dropout=0.0, dropatt=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = TransfoXLLMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.add_(noise * 0.1) if parameter.dim() == 1 else parameter.copy_(noise * 0.25)
    return model


def run(model: TransfoXLLMHeadModel, segments: list[torch.Tensor]) -> list:
    """The outputs of segments that follow each other."""
    mems = [torch.zeros(0, ROWS, SHAPE["d_model"]) for _ in range(SHAPE["n_layer"])]
    out = []
    for ids in segments:
        out.append(model(ids, mems=mems, output_hidden_states=True))
        mems = out[-1].mems
    return out


def record(model: TransfoXLLMHeadModel) -> dict[str, torch.Tensor]:
    """States, log-probabilities and memory in evaluation mode; gradients in training mode, without dropout."""
    segments = [torch.randint(VOCAB, (ROWS, length)) for length in SEGMENTS]
    labels = [torch.randint(VOCAB, ids.shape) for ids in segments]
    values = {}
    with torch.no_grad():
        for number, out in enumerate(run(model.eval(), segments)):
            values[f"{number}/input_ids"], values[f"{number}/labels"] = segments[number], labels[number]
            for layer, state in enumerate(out.hidden_states):
                values[f"{number}/state.{layer}"] = state
            values[f"{number}/log_prob"] = out.prediction_scores
            for layer, memory in enumerate(out.mems):
                values[f"{number}/memory.{layer}"] = memory
    model.train().zero_grad()
    outputs = run(model, segments)
    losses = [
        -out.prediction_scores.gather(2, wanted[..., None]).sum()
        for out, wanted in zip(outputs, labels, strict=True)
    ]
    sum(losses).backward()
    values["loss"] = sum(losses).detach()
    for name, parameter in model.named_parameters():
        flat = parameter.grad.flatten()
        values[f"gradient.{name}.norm"] = flat.norm()
        values[f"gradient.{name}.some"] = flat[:: max(1, len(flat) // 12)][:12]
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    for case in CASES:
        model = build(case)
        folder = args.out / case
        folder.mkdir(parents=True, exist_ok=True)
        written = {"architectures": ["TransfoXLLMHeadModel"], **model.config.to_diff_dict()}
        (folder / "config.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        save_file({name: x.clone() for name, x in model.state_dict().items()}, folder / "model.safetensors")
        values = record(model)
        whole = {name: x.to(torch.int16) for name, x in values.items() if not x.is_floating_point()}
        save_file({name: x.clone() for name, x in (values | whole).items()}, folder / "values.safetensors")
        print(f"{folder}: {len(values)} values", flush=True)


if __name__ == "__main__":
    main()
