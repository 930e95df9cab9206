"""What the shapes of a file's tensors tell of a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fenghuo.models.family import Family
from fenghuo.models.weights import Weights


def shape_values(weights: Weights, family: Family) -> dict[str, Any]:
    """The values of an `EncoderConfig` that the tensors' shapes tell."""
    shapes = weights.shapes
    out: dict[str, Any] = {}
    for name in ("words", "positions", "segments", "tasks", "languages"):
        field = {"words": "vocab", "positions": "max_length"}.get(name, name)
        table = f"encoder.embed.tables.{name}."
        if sizes := [
            x[0] for key, x in shapes.items() if key.startswith((f"{table}weight", f"{table}tables."))
        ]:
            out[field] = sum(sizes)
        elif rows := weights.form.zeros.get(f"encoder.embed.tables.{name}.weight"):
            out[field] = rows
        elif field in ("segments", "tasks", "languages"):
            out[field] = 0
    if (words := shapes.get("encoder.embed.tables.words.weight")) is not None:
        out["embed_width"] = words[-1]
    groups = {}
    for part, sample in (("attentions", "query"), ("feeds", "inner")):
        found = [re.fullmatch(rf"encoder\.{part}\.(\d+)\.{sample}\.weight", name) for name in shapes]
        groups[part] = len({match[1] for match in found if match})
    for name, key, axis in (("attentions.0.query", "width", 1), ("feeds.0.inner", "inner_width", 0)):
        if (shape := shapes.get(f"encoder.{name}.weight")) is not None and len(shape) == 2:
            out[key] = shape[axis]
    attentions, feeds = groups["attentions"], groups["feeds"]
    if attentions == feeds:
        out["layer_groups"] = attentions
    elif attentions < feeds:
        out |= {"layer_groups": attentions, "layers": feeds, "shared": "attention"}
    else:
        out |= {"layer_groups": feeds, "layers": attentions, "shared": "feed_forward"}
    if "layer_groups" not in family.defaults and "layer_groups" not in family.config_keys.values():
        out["layers"] = attentions
    if "layer_types" in family.config_keys.values():
        out["layer_types"] = tuple(_layer_type(shapes, layer) for layer in range(attentions))
        for name, shape in shapes.items():
            if name.endswith(".entity_inner.weight"):
                out["entity_width"] = shape[-1]
    return out


def _layer_type(shapes: Mapping[str, tuple[int, ...]], layer: int) -> str:
    """What a layer does with entities, by the tensors it has for them."""
    if any(name.startswith(f"encoder.entity_attentions.{layer}.") for name in shapes):
        return "norm"
    return "mix" if any(name.startswith(f"encoder.feeds.{layer}.entity_") for name in shapes) else "sim"
