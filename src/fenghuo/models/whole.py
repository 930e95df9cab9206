"""Which heads of a file are whole: half a head is left out, a bias that is missing begins at 0, and both are told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fenghuo.errors import ModelError
from fenghuo.models.recognize import Recognized
from fenghuo.net.config import HeadsConfig
from fenghuo.net.initial import empty_model

HEADS = {
    "mlm": "MLM head",
    "pooler": "pooler",
    "pair": "pair head",
    "span_boundary": "span boundary head",
    "entity": "entity head",
    "head": "task head",
}


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What can be made of a file without a random number in it."""

    found: Recognized
    zeroed: tuple[str, ...] = ()
    """Our names of biases that the file lacks; they are 0."""
    left_out: tuple[str, ...] = ()
    """Stored names of the parts of heads that are not whole."""
    absent: tuple[str, ...] = ()
    """Heads that the file has nothing or not enough of."""


def whole_heads(found: Recognized) -> Whole:
    """Drop the heads that lack a matrix, and those that read them.

    Raises:
        ModelError: the encoder lacks a tensor.
    """
    weights, heads = found.weights, found.heads
    wanted = [name for name, _ in empty_model(found.config, heads).named_parameters()]
    missing = set(wanted) - weights.shapes.keys() - weights.zeros
    if encoder := sorted(name for name in missing if name.startswith("encoder.")):
        theirs = [str(found.family.theirs(name) or name) for name in encoder]
        more = ", …" if len(theirs) > 3 else ""
        raise ModelError(
            f"{weights.stored.path}: {len(encoder)} encoder tensors are missing: {', '.join(theirs[:3])}{more}"
        )
    zeroed: list[str] = []
    left_out: list[str] = []
    absent: list[str] = []
    for head in HEADS:  # the pooler before what reads it
        lost = [name for name in missing if name.split(".")[0] == head]
        there = [name for name in weights.shapes if name.split(".")[0] == head]
        reads_pooler = head == "pair" or (head == "head" and heads.task == "classify" and found.family.pooler)
        biases_only = all(name.endswith("bias") for name in lost)
        if there and biases_only and not (reads_pooler and "pooler" in absent):
            zeroed += lost
            continue
        absent.append(head)
        left_out += [weights.sources[name].name for name in there]
    kept = {name: shape for name, shape in weights.shapes.items() if name.split(".")[0] not in absent}
    weights = replace(
        weights,
        shapes=kept,
        sources={name: weights.sources[name] for name in kept},
        zeros=weights.zeros | set(zeroed),
    )
    return Whole(
        found=replace(found, weights=weights, heads=_without(heads, absent)),
        zeroed=tuple(sorted(zeroed)),
        left_out=tuple(sorted(left_out)),
        absent=tuple(absent),
    )


def _without(heads: HeadsConfig, absent: list[str]) -> HeadsConfig:
    task = None if "head" in absent else heads.task
    return replace(
        heads,
        **{name: getattr(heads, name) and name not in absent for name in HEADS if name != "head"},
        task=task,
        outputs=heads.outputs if task else 0,
        dropout=heads.dropout if task else None,
    )
