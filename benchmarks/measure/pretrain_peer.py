"""A training step with transformers 4.57.6, for benchmarks/pretrain.py. Runs in `.venv-reference`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
import transformers
from program import serve
from transformers import BertConfig, BertForMaskedLM, NezhaConfig, NezhaForMaskedLM

FAMILIES = {"nezha": (NezhaConfig, NezhaForMaskedLM), "bert": (BertConfig, BertForMaskedLM)}
UNASKED = -100  # the label that transformers' loss leaves out
MULTIPLE = 8


def padded(batch: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """As DataCollatorForLanguageModeling makes it: padded to the longest, and to a multiple of 8."""
    lengths = batch["lengths"]
    longest = -(-max(lengths) // MULTIPLE) * MULTIPLE
    flat = torch.full((sum(lengths),), UNASKED)
    flat[torch.tensor(batch["asked_at"])] = torch.tensor(batch["asked_pieces"])
    columns = {"input_ids": (torch.tensor(batch["pieces"]), 0), "labels": (flat, UNASKED)}
    made = {
        name: torch.stack(
            [torch.nn.functional.pad(row, (0, longest - len(row)), value=fill) for row in x.split(lengths)]
        )
        for name, (x, fill) in columns.items()
    }
    made["attention_mask"] = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return made


def prepare(
    family: str, shape: dict[str, int], vocabulary: int, batches: list[dict[str, Any]]
) -> Callable[[], None]:
    """Forward, backward, clipping and fused AdamW, as its Trainer has them by default."""
    config_class, model_class = FAMILIES[family]
    config = config_class(
        vocab_size=vocabulary,
        hidden_size=shape["width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["inner_width"],
    )
    model = model_class(config).train()
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    tensors = cycle([padded(batch) for batch in batches])

    def step() -> None:
        model(**next(tensors)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    serve(prepare, transformers.__version__)
