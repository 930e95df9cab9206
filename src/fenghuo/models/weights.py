"""Stored arrays → weights under our names: what is which, what is left over, and what only looks like a weight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fenghuo.errors import ModelError
from fenghuo.models.family import Family
from fenghuo.models.names import Form
from fenghuo.models.released.stored import Stored

SAFETENSORS = "model.safetensors"

# What an optimizer or a trainer keeps beside the weights: NEZHA's and BERT's slots, Saver's, Paddle's.
_SLOTS = (
    r".*/(adam|lamb)_[mv]",
    r".*/Adam(_1)?",
    r"(.*/)?(global_step|beta[12]_power|loss_scale.*|good_steps|bad_steps)",
    r".*_(moment[12]|beta[12]_pow_acc|velocity)_\d+",
    r"(@LR_DECAY_COUNTER@|learning_rate.*|loss_scaling.*|num_(good|bad)_steps.*|counter)",
)
_SLOT = re.compile("|".join(f"(?:{pattern})" for pattern in _SLOTS))


def is_slot(name: str) -> bool:
    """Whether a stored array is an optimizer's or a trainer's, by its name."""
    return _SLOT.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where one of our tensors lies: rows `part` of `parts` equal ones of a stored tensor, maybe transposed."""

    name: str
    transposed: bool = False
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file's arrays under our names, read when asked for."""

    stored: Stored
    form: Form
    shapes: dict[str, tuple[int, ...]]
    """Our names → our shapes."""
    sources: dict[str, _Source]
    renamed: dict[str, str] = field(default_factory=dict)
    """Stored name → our name, tied copies left out."""
    dropped: tuple[str, ...] = ()
    """Stored names that hold no weight: tables of a formula, tied copies, optimizer slots."""
    unexpected: tuple[str, ...] = ()
    """Stored names that no rule of the form has: heads that are not supported, most often."""
    zeros: frozenset[str] = frozenset()
    """Our names of what is not stored and is 0."""

    @property
    def inside(self) -> list[str]:
        """Those of `unexpected` that belong to the encoder: it computes something else than is known here."""
        return [name for name in self.unexpected if self.form.is_inside(name.removeprefix("module."))]

    def read(self, ours: str) -> Tensor:
        """One tensor in float32, with memory of its own.

        Raises:
            ModelError: its bytes are damaged, or its numbers are whole ones: int8 weights have scales beside them.
        """
        source = self.sources[ours]
        tensor = self.stored[source.name]
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"{self.stored.path}: {source.name} holds {kind} numbers; weights are floating-point ones"
            )
        if source.parts > 1:
            tensor = tensor.chunk(source.parts)[source.part]
        if source.transposed:
            tensor = tensor.T
        # A copy, because the file's own tensors are views of a mapped file that others may write to.
        return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def name_weights(stored: Stored, form: Form, task: str | None = None) -> Weights:
    """Sort a file's arrays by the rules of a form.

    Args:
        task: the task head the model has, for heads whose names differ by it.

    Raises:
        ModelError: two arrays for one of our names; a tied copy that differs from its original.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    sources: dict[str, _Source] = {}
    renamed, dropped, unexpected, tied = {}, [], [], {}
    strip = _wrapper(stored)
    for name, shape in stored.shapes.items():
        plain = name.removeprefix(strip)
        if is_slot(plain) or form.is_dropped(plain):
            dropped.append(name)
        elif (shared := _stored_once(stored, form, plain, strip)) is not None:
            if not _same(stored, name, shared):
                raise ModelError(f"{stored.path}: {name} differs from {shared}, which all layers share")
            dropped.append(name)
        elif (copied := form.copy_of(plain)) is not None:
            tied[name] = copied
        elif parts := form.parts(plain):
            for number, ours in enumerate(parts):
                _place(stored, sources, ours, _Source(name=name, part=number, parts=len(parts)))
                shapes[ours] = (shape[0] // len(parts), *shape[1:])
            renamed[name] = ", ".join(parts)
        elif (found := form.ours(plain, task)) is not None:
            ours, transposed = found
            _place(stored, sources, ours, _Source(name=name, transposed=transposed and len(shape) == 2))
            shapes[ours] = shape[::-1] if transposed else shape
            renamed[name] = ours
        else:
            unexpected.append(name)
    for name, ours in tied.items():
        if ours not in sources:
            sources[ours], shapes[ours] = _Source(name=name), stored.shapes[name]
            renamed[name] = ours
        elif not _same(stored, name, sources[ours].name):
            raise ModelError(
                f"{stored.path}: {name} differs from the table it is tied to; untied heads are unsupported"
            )
        else:
            dropped.append(name)
    return Weights(
        stored=stored,
        form=form,
        shapes=shapes,
        sources=sources,
        renamed=renamed,
        dropped=tuple(dropped),
        unexpected=tuple(unexpected),
        zeros=frozenset(form.zeros.keys() - shapes.keys()),
    )


def stored_tensors(
    form: Form, tensors: Mapping[str, Tensor], layers: int, task: str | None = None
) -> dict[str, Tensor]:
    """Tensors under our names → as files of a form hold them: fused, and what layers share once more for each.

    Raises:
        ModelError: the form has no name for one of them.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if (whole := form.whole(name)) is not None:
            fused, parts = whole
            if name == parts[0]:
                out[fused] = torch.cat([tensors[part] for part in parts])
        elif (found := form.theirs(name, task)) is not None:
            theirs, transposed = found
            out[theirs] = (tensor.T if transposed and tensor.dim() == 2 else tensor).contiguous()
            if (copy := form.repeated.get(theirs)) is not None:
                # Clones, because a file of safetensors cannot hold one memory twice.
                out |= {copy.replace("{n}", str(n)): out[theirs].clone() for n in range(layers)}
        else:
            raise ModelError(f"a file of {form.name} has no name for {name}")
    return out


def coverage(stored: Stored, form: Form, task: str | None = None) -> int:
    """How many of a file's arrays the rules of a form know; 0 where the table of words is not among them."""
    strip = _wrapper(stored)
    known, words = 0, False
    for name in stored.shapes:
        plain = name.removeprefix(strip)
        if is_slot(plain):
            continue
        found = form.ours(plain, task)
        words = words or (found is not None and found[0].startswith("encoder.embed.tables.words."))
        known += bool(found or form.parts(plain) or form.copy_of(plain))
    return known if words else 0


def table_rows(stored: Stored, form: Form) -> dict[str, int]:
    """Rows of each embedding table that the form knows, by our name of it; tables of zeros count."""
    strip = _wrapper(stored)
    out = {name.split(".")[3]: rows for name, rows in form.zeros.items()}
    for name, shape in stored.shapes.items():
        found = form.ours(name.removeprefix(strip))
        if found is not None and found[0].startswith("encoder.embed.tables."):
            out[found[0].split(".")[3]] = shape[0] if shape else 0
    return out


def best_form(stored: Stored, family: Family, task: str | None = None) -> Form:
    """The form of a family whose names the file's arrays have; Hugging Face's where none fits better."""
    return max(family.forms, key=lambda form: coverage(stored, form, task))


def _place(stored: Stored, sources: dict[str, _Source], ours: str, source: _Source) -> None:
    if ours in sources:
        raise ModelError(f"{stored.path}: two tensors for one weight, {sources[ours].name} and {source.name}")
    sources[ours] = source


def _wrapper(stored: Mapping[str, Tensor]) -> str:
    """`module.` where a parallel wrapper put it before every name."""
    names = [name for name in stored if not is_slot(name)]
    return "module." if names and all(name.startswith("module.") for name in names) else ""


def _stored_once(stored: Stored, form: Form, plain: str, strip: str) -> str | None:
    """The stored tensor that a layer's tensor repeats, or None."""
    if (shared := form.repeats(plain)) is None:
        return None
    readings = (shared, shared.removeprefix(form.prefixes[0] if form.prefixes else ""))
    return next((strip + name for name in readings if strip + name in stored), None)


def _same(stored: Stored, a: str, b: str) -> bool:
    if stored.shapes[a] == stored.shapes[b]:
        return torch.equal(stored[a], stored[b])
    # Paddle's RobertaLMHead keeps the table as a linear layer's weight, which lies the other way round.
    return stored.shapes[a] == stored.shapes[b][::-1] and torch.equal(stored[a].T, stored[b])
