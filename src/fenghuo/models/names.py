"""Tensor names of other programs ⇄ ours, and which matrices lie the other way round."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

Rules = tuple[tuple[str, str], ...]
"""(ours, theirs): a module and all it holds, or, where ours ends in `.weight` or `.bias`, one tensor. `{n}` is a
number. `^T` behind theirs: that one tensor is stored transposed."""

Target = Literal["huggingface", "tensorflow", "paddle"]


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How a program ends the names of what a module holds, by the kind of module."""

    weight: str
    """Of a linear layer."""
    bias: str
    gain: str
    """The weight of a norm."""
    shift: str
    """The bias of a norm."""
    table: str
    """The weight of an embedding."""
    transposed: bool
    """Linear weights are stored (in, out), where torch has (out, in)."""


TORCH = Spelling(
    weight=".weight", bias=".bias", gain=".weight", shift=".bias", table=".weight", transposed=False
)


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way in which a family's files name their tensors. The same rules read and write, so that the two cannot
    drift apart."""

    name: str
    """Shown to people: who writes files like this."""
    target: Target | None
    """What `--to` calls it; None: it is only read."""
    rules: Rules
    spelling: Spelling = TORCH
    task_rules: Mapping[str, Rules] = field(default_factory=lambda: MappingProxyType({}))
    """Rules that go before the others where the model has that task head."""
    fused: tuple[tuple[tuple[str, ...], str], ...] = ()
    """(ours, theirs): several of our tensors, one below another in one of theirs."""
    tied: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Their names of stored copies → the tensor of ours that each copies. `{n}` is a number."""
    repeated: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Their name of what all layers share → the name under which each layer has it once more; `{n}` is the layer."""
    copies: tuple[str, ...] = ()
    """Those of `tied` whose tensor its own code misses where a file lacks it, or fills with random numbers."""
    dropped: tuple[str, ...] = ()
    """Patterns of stored tensors that hold no weight."""
    prefixes: tuple[str, ...] = ()
    """Where the encoder's names begin: as written, then as also found. Names may lack it."""
    defaults: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Values of `EncoderConfig` that the code behind such files computes with, where their config says nothing."""
    means: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What an activation's name in their config means to that code, where it means another one than to torch's."""
    zeros: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Tables of ours that such files lack and the family has, as so many rows of zeros."""
    segments: int | None = None
    """Rows of the segments' table in such files, where that tells two families of the same names apart."""
    config_keys: Mapping[str, str] | None = None
    """Keys of the settings in such files → fields of `EncoderConfig`; None: the family's own."""

    def theirs(self, ours: str, task: str | None = None) -> tuple[str, bool] | None:
        """Our tensor's name in such files, and whether it is stored transposed; None where no rule fits."""
        for pattern, target, flipped in self._compiled(task, False):
            if match := pattern.fullmatch(ours):
                return _fill(target, match), flipped
        return None

    def ours(self, theirs: str, task: str | None = None) -> tuple[str, bool] | None:
        """The inverse of `theirs`: with another prefix, or none, too."""
        compiled = self._compiled(task, True)
        known = _any_of(tuple(pattern.pattern for pattern, _, _ in compiled))
        for name in self._readings(theirs):
            if known.fullmatch(name) is None:  # most names, when every form is tried on a file
                continue
            for pattern, target, flipped in compiled:
                if match := pattern.fullmatch(name):
                    return _fill(target, match), flipped
        return None

    def parts(self, theirs: str) -> tuple[str, ...]:
        """Our names of what a fused tensor holds, from above to below; empty where it is none."""
        for name in self._readings(theirs):
            for parts, whole in self.fused:
                if match := _pattern(whole).fullmatch(name):
                    return tuple(_fill(part, match) for part in parts)
        return ()

    def whole(self, ours: str) -> tuple[str, tuple[str, ...]] | None:
        """The fused tensor one of ours is stored in, and all of ours that lie in it; None where it is stored alone."""
        for parts, whole in self.fused:
            for part in parts:
                if match := _pattern(part).fullmatch(ours):
                    return _fill(whole, match), tuple(_fill(one, match) for one in parts)
        return None

    def copy_of(self, theirs: str) -> str | None:
        """Our name of what this stored tensor copies, or None."""
        for name in self._readings(theirs):
            for copy, ours in self.tied.items():
                if match := _pattern(copy).fullmatch(name):
                    return _fill(ours, match)
        return None

    def repeats(self, theirs: str) -> str | None:
        """Their name of what a layer's tensor repeats, if that is stored too; None where it can be no repetition."""
        for name in self._readings(theirs):
            for shared, copy in self.repeated.items():
                if _pattern(copy).fullmatch(name):
                    return shared
        return None

    def is_dropped(self, theirs: str) -> bool:
        """Whether the tensor holds no weight."""
        return any(re.fullmatch(pattern, name) for name in self._readings(theirs) for pattern in self.dropped)

    def is_inside(self, theirs: str) -> bool:
        """Whether a name without a rule belongs to the encoder: it has its prefix, or is one of a layer's."""
        layers = (name for ours, name in self.rules if ours.startswith("encoder.") and "{n}" in name)
        stems = tuple({name.partition("{n}")[0] for name in layers})
        return theirs.startswith(self.prefixes) or any(
            name.startswith(stems) for name in self._readings(theirs)
        )

    def _readings(self, theirs: str) -> list[str]:
        """The name as the rules may have it."""
        if self.spelling is TORCH:
            theirs = re.sub(r"\.gamma$", ".weight", theirs)
            theirs = re.sub(r"\.beta$", ".bias", theirs)
        out = [theirs]
        for other in self.prefixes[1:]:
            if theirs.startswith(other):
                out.append(self.prefixes[0] + theirs.removeprefix(other))
        if self.prefixes:
            out.append(self.prefixes[0] + theirs)
        return out

    def _compiled(self, task: str | None, reading: bool) -> tuple[tuple[re.Pattern[str], str, bool], ...]:
        rules = (*self.task_rules.get(task or "", ()), *self.rules)
        return _compile(rules, self.spelling, reading)


def _kind(module: str) -> str:
    if ".tables." in module:
        return "table"
    return "norm" if module.rpartition(".")[2].endswith("norm") else "linear"


@lru_cache(maxsize=512)
def _compile(
    rules: Rules, spelling: Spelling, reading: bool
) -> tuple[tuple[re.Pattern[str], str, bool], ...]:
    """(pattern to match, name to make of it, transposed) for each tensor that a rule may name."""
    made = []
    for ours, theirs in rules:
        flipped = theirs.endswith("^T")
        theirs = theirs.removesuffix("^T")
        if ours.endswith((".weight", ".bias")):
            pairs = [(ours, theirs, flipped)]
        else:
            ends = {
                "linear": (spelling.weight, spelling.bias),
                "norm": (spelling.gain, spelling.shift),
                "table": (spelling.table, None),
            }[kind := _kind(ours)]
            pairs = [(f"{ours}.weight", theirs + ends[0], spelling.transposed and kind == "linear")]
            if ends[1] is not None:
                pairs.append((f"{ours}.bias", theirs + ends[1], False))
        for mine, other, turn in pairs:
            source, target = (other, mine) if reading else (mine, other)
            if ("{n}" in source) != (
                "{n}" in target
            ):  # what all layers share has no number there, and 0 here
                source, target = source.replace("{n}", "0"), target.replace("{n}", "0")
            made.append((_pattern(source), target, turn))
    return tuple(made)


@lru_cache(maxsize=4096)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{n\}", r"(?P<n>0|[1-9]\d{0,3})", 1))


@lru_cache(maxsize=512)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(pattern.replace("(?P<n>", "(?:") for pattern in patterns))


def _fill(target: str, match: re.Match[str]) -> str:
    return target.replace("{n}", match.groupdict().get("n") or "")
