"""Self-attention of transformers 4.57.6, for benchmarks/attention.py. Runs in `.venv-reference`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from program import serve
from transformers import BertConfig, BertModel, NezhaConfig, NezhaModel


def prepare(kind: str, mode: str, heads: int, width: int, rows: int, length: int) -> Callable[[], None]:
    """One layer's self-attention, projections included: forward, and backward where it trains."""
    config_class, model_class = {"nezha": (NezhaConfig, NezhaModel), "plain": (BertConfig, BertModel)}[kind]
    config = config_class(
        vocab_size=8,
        hidden_size=heads * width,
        num_hidden_layers=1,
        num_attention_heads=heads,
        intermediate_size=8,
        max_position_embeddings=max(512, length),
    )
    attention = model_class(config).encoder.layer[0].attention.self
    attention.train(mode == "training")
    x = torch.randn(rows, length, heads * width, requires_grad=mode == "training")
    grad = torch.randn(rows, length, heads * width)

    def train() -> None:
        attention(x)[0].backward(grad)
        attention.zero_grad()
        x.grad = None

    def infer() -> None:
        with torch.no_grad():
            attention(x)

    return train if mode == "training" else infer


if __name__ == "__main__":
    serve(prepare, transformers.__version__)
