"""Pieces → vectors."""

# Shapes: T flat pieces (or B, L of a padded batch), E embedding width, D width.
from __future__ import annotations

import torch
from torch import Tensor, nn

from fenghuo.net.adaptive import AdaptiveWords
from fenghuo.net.config import EncoderConfig
from fenghuo.net.dropout import Dropout


class Embedding(nn.Module):
    """Sum of word, segment, position, task and language vectors, normalized (BERT, arXiv 1810.04805, §3).

    A table whose size is 0 is absent. A model with fewer than two segments (RoBERTa, XLM) tells none apart: whatever
    segments a batch has, training, the padded call and exported graphs read none.

    Where E < D, a linear layer widens the normalized sum (ALBERT), or the words before they are added to tables of
    width D (albert_zh, `modeling.py`, which knows no bias there). Adaptive words widen themselves, and then nothing is
    normalized.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        narrow = config.embed_width
        width = config.width if config.widen == "words" else narrow
        sizes = {
            "words": config.vocab,
            "positions": config.max_length if config.position == "learned" else 0,
            "segments": config.segments,
            "tasks": config.tasks,
            "languages": config.languages,
        }
        self.tables = nn.ModuleDict(
            {
                name: AdaptiveWords(config)
                if config.adaptive and name == "words"
                else nn.Embedding(size, narrow if name == "words" else width)
                for name, size in sizes.items()
                if size
            }
        )
        self.norm = None if config.adaptive else nn.LayerNorm(width, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.widens_words = config.widen == "words"
        self.project = (
            nn.Linear(narrow, config.width, bias=not self.widens_words) if narrow < config.width else None
        )

    @property
    def words(self) -> nn.Embedding:
        """The word table, (V, E)."""
        table = self.tables["words"]
        assert isinstance(table, nn.Embedding)
        return table

    @property
    def adaptive_words(self) -> AdaptiveWords:
        """The word tables by cluster, where the config says adaptive."""
        table = self.tables["words"]
        assert isinstance(table, AdaptiveWords)
        return table

    def forward(self, ids: dict[str, Tensor | None]) -> Tensor:
        """Ids of each table, all of one shape (T,) or (B, L) → (…, D); absent ids are zeros.

        Raises:
            ValueError: an id outside its table, or ids for a table the model has not.
        """
        total = None
        if "segments" not in self.tables or self.tables["segments"].num_embeddings == 1:
            ids = {**ids, "segments": None}
        for name, index in ids.items():
            if index is not None and name not in self.tables and name != "positions":
                raise ValueError(f"this model has no table of {name}")
        for name, table in self.tables.items():
            assert isinstance(table, nn.Embedding | AdaptiveWords)
            index = ids.get(name)
            if index is None and isinstance(table, nn.Embedding):
                part = table.weight[0]
            else:
                assert index is not None
                _check_range(name, index, table.num_embeddings)
                part = table(index)
            if name == "words" and self.project is not None and self.widens_words:
                part = self.project(part)
            total = part if total is None else total + part
        out: Tensor = self.dropout(total if self.norm is None else self.norm(total))
        return out if self.project is None or self.widens_words else self.project(out)


def _check_range(name: str, index: Tensor, size: int) -> None:
    # On a GPU the comparison would wait for the device; there the kernel itself asserts.
    if torch.compiler.is_compiling() or index.device.type != "cpu" or not index.numel():
        return
    low, high = (int(x) for x in torch.aminmax(index))
    if low < 0 or high >= size:
        what = "a sequence is too long for the learned positions" if name == "positions" else f"{name} ids"
        raise ValueError(f"{what}: ids run from {low} to {high}, the table has {size} rows")
