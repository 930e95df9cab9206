"""A model with fewer pieces: rows of the word table, and of whatever else has a row a piece, left out."""

# Shapes: V pieces before, W pieces after.
from __future__ import annotations

import re
from dataclasses import replace

from torch import Tensor

from fenghuo.models.build import find_family
from fenghuo.net.initial import empty_model
from fenghuo.net.model import Model

_CLUSTERS = re.compile(r"(?:encoder\.embed\.tables\.words\.tables|mlm\.biases)\.(\d+)\..*")


def bound_pieces(model: Model) -> list[int]:
    """Pieces that a smaller vocabulary must keep for the model's sake, in order.

    They are those up to the last number that its family's files take for granted (RoBERTa's padding is 1), those that
    its configuration names, and the first word of each cluster of adaptive words, since no cluster can be empty.
    """
    card = find_family(model.family)
    fixed = [number for key, number in {**card.written, **card.fixed}.items() if key.endswith("_token_id")]
    bound = set(range(max(fixed, default=-1) + 1)) | set(_named(model).values()) | set(model.config.cutoffs)
    return sorted(number for number in bound | {0} if number < model.config.vocab)


def cut_vocabulary(model: Model, kept: Tensor) -> Model:
    """The same model for the pieces `kept`, in evaluation mode; nothing else of it changes.

    Hidden states and a task head's logits stay, MLM logits of kept pieces too. A softmax by clusters goes on to sum to
    1 over what is left, so its log-probabilities grow alike within a cluster.

    Args:
        kept: (W,) ids in order, with all of `bound_pieces` among them.
    """
    config, old = model.config, dict(model.named_parameters())
    cutoffs = tuple(int((kept < end).sum()) for end in config.cutoffs)
    smaller = replace(config, vocab=len(kept), cutoffs=cutoffs)
    made = empty_model(smaller, model.heads_config, family=model.family)
    # What grows with the vocabulary has a row a piece, whatever it is called.
    longer = replace(config, vocab=config.vocab + 1)
    grown = dict(empty_model(longer, model.heads_config, family=model.family).named_parameters())
    ends = (*config.cutoffs, config.vocab)
    state = {}
    for name, tensor in old.items():
        if match := _CLUSTERS.fullmatch(name):
            end = ends[int(match[1])] if config.cutoff_divisor > 1 else config.vocab
            begin = end - tensor.shape[0]
            rows = kept[(kept >= begin) & (kept < end)] - begin
        elif grown[name].shape != tensor.shape:
            rows = kept
        else:
            state[name] = tensor.detach()
            continue
        state[name] = tensor.detach().index_select(0, rows.to(tensor.device))
    made.load_state_dict(state, assign=True)
    numbers = {key: int((kept < number).sum()) for key, number in _named(model).items()}
    made.extra = {**model.extra, **numbers}
    return made.eval()


def _named(model: Model) -> dict[str, int]:
    """Pieces that config.json names, such as `pad_token_id`."""
    return {
        key: number
        for key, number in model.extra.items()
        if key.endswith("_token_id") and isinstance(number, int) and 0 <= number < model.config.vocab
    }
