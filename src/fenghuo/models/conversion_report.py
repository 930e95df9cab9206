"""What became of everything in a released file, for people and for programs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fenghuo import __version__
from fenghuo.models.family import Family
from fenghuo.models.recognize import Recognized
from fenghuo.models.released.stored import Stored
from fenghuo.models.weights import is_slot
from fenghuo.models.whole import HEADS


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """The load report of `fenghuo convert`."""

    source: Path
    stored: Stored
    found: Recognized
    parameters: int
    absent: tuple[str, ...]
    """Heads the file does not have, or not whole."""
    zeroed: tuple[str, ...]
    """Hugging Face's names of biases that were missing and are 0."""
    left_out: tuple[str, ...]
    """Stored names of half heads."""
    ignored: tuple[str, ...]
    """Keys of the configuration that change nothing here."""
    remarks: tuple[str, ...]
    vocabulary: str
    health: str | None
    """Of the MLM head; None where there is none."""

    @property
    def family(self) -> Family:
        """The family found."""
        return self.found.family

    @property
    def missing(self) -> list[str]:
        """The heads a pretrained model of this family may have, and this file has not."""
        may = {
            "head": False,
            "span_boundary": False,
            "pooler": self.family.pooler,
            "pair": self.family.theirs("pair.out.weight") is not None,
        }
        may["entity"] = self.family.theirs("entity.dense.weight") is not None
        return [HEADS[head] for head in self.absent if may.get(head, True)]

    def as_json(self) -> dict[str, Any]:
        """Every name, ungrouped."""
        weights = self.found.weights
        return {
            "source": self.source.name,
            "format": self.stored.format,
            "family": self.family.name,
            "form": weights.form.name,
            "parameters": self.parameters,
            "loaded": weights.renamed,
            "missing": self.missing,
            "reinitialized": list(self.zeroed),
            "unexpected": [*weights.unexpected, *self.left_out],
            "not_tensors": list(self.stored.skipped),
            "dropped": list(weights.dropped),
            "contradictions": list(self.found.contradictions),
            "remarks": list(self.remarks),
            "ignored_config": list(self.ignored),
            "vocabulary": self.vocabulary,
            "mlm_head": self.health,
        }

    def lines(self, *, shapes: bool = False) -> Iterator[str]:
        """The report as text.

        Args:
            shapes: list each stored array first, with its shape and our name.
        """
        weights, config = self.found.weights, self.found.config
        if shapes:
            for name, shape in self.stored.shapes.items():
                became = weights.renamed.get(name) or ("dropped" if name in weights.dropped else "unexpected")
                yield f"  {name}  {tuple(shape)}  → {became}"
        there = [told for head, told in HEADS.items() if head not in self.absent]
        yield f"{self.source}: {self.family.name}, as {weights.form.name} names it ({self.stored.format})"
        yield (
            f"  shape          {config.layers} layers, width {config.width}, {config.heads} heads, inner width "
            f"{config.inner_width}, {config.vocab:,} pieces; {self.parameters:,} parameters"
        )
        yield f"  heads          {', '.join(there) or 'none'}"
        yield f"  loaded         {len(weights.renamed)} of {len(self.stored)} tensors"
        slots = [name for name in weights.dropped if is_slot(name)]
        rest = [name for name in weights.dropped if name not in slots]
        groups = {
            "missing": self.missing,
            "re-initialized": [f"{name} (0)" for name in self.zeroed],
            "unexpected": [*weights.unexpected, *self.left_out],
            "no tensors": self.stored.skipped,
            "dropped": rest,
            "dropped slots": [f"{count} of {kind}" for kind, count in Counter(map(_slot, slots)).items()],
            "contradictions": self.found.contradictions,
            "remarks": self.remarks,
            "config ignored": self.ignored,
        }
        for title, names in groups.items():
            for number, text in enumerate(grouped(names) or ["none"]):
                yield f"  {title if number == 0 else '':<14} {text}"
        yield f"  vocabulary     {self.vocabulary}"
        if self.health is not None:
            yield f"  MLM head       {self.health}"

    def card(self) -> str:
        """README.md of the folder that is written; it is published, so it names no path."""
        front = ["---", "library_name: fenghuo", "tags: [fenghuo]", "---"]
        about = f"# {self.source.name}\n\nConverted by fenghuo {__version__}. {self.family.name}: "
        about += f"{self.family.citation}."
        use = 'import fenghuo\nmodel = fenghuo.load_model("THIS FOLDER")'
        report = "\n".join(replace(self, source=Path(self.source.name)).lines())
        return "\n".join([*front, about, "", "## Use", "", "```python", use, "```", "", "## Load report", "", "```",
                          report, "```", ""])  # fmt: skip


_NUMBER = re.compile(r"(?<![\w])\d+(?=[./]|$)|(?<=layer_)\d+|(?<=group_)\d+")
"""Of a layer or a group, in a tensor's name."""


def _slot(name: str) -> str:
    """What a slot is of all weights: `lamb_m`, `moment1`."""
    last = name.rpartition("/")[2]
    return (
        match[1] if (match := re.fullmatch(r".*_(moment[12]|beta[12]_pow_acc|velocity)_\d+", last)) else last
    )


def grouped(names: Iterable[str]) -> list[str]:
    """Names that differ in a number alone as one line: `layer.0…11.bias (12)`."""
    groups: dict[str, list[tuple[int, ...]]] = {}
    plain: dict[str, str] = {}
    for name in names:
        key = _NUMBER.sub("#", name)
        numbers = tuple(map(int, _NUMBER.findall(name)))
        groups.setdefault(key, []).append(numbers)
        plain[key] = name
    out = []
    for key, found in groups.items():
        if len(found) == 1 or "#" not in key:
            out.append(plain[key])
            continue
        text = key
        for column in zip(*found, strict=True):
            low, high = min(column), max(column)
            text = text.replace("#", str(low) if low == high else f"{low}…{high}", 1)
        out.append(f"{text} ({len(found)})")
    return out
