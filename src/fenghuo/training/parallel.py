"""How ranks share one optimizer step: DistributedDataParallel, or FSDP2, over a learner's question.

Each rank takes its part of every global batch. What a step asks is added up over the ranks before the backward pass, so
that the loss is a mean over what was asked of all of them; gradients are added up in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fenghuo import ranks
from fenghuo.training.terms import Arrays, Learner, Terms
from fenghuo.training.world import World, add_up


@runtime_checkable
class Cut(Protocol):
    """What FSDP2 makes of a module, told by what only that can do: to import it takes a second or two."""

    def reshard(self) -> None:
        """Let go of the gathered weights."""
        ...


class Asking(nn.Module):
    """A learner's question as one forward pass of a module, which is where DDP begins its work.

    DDP looks for unused parameters in each step, for two reasons. Ranks may hold different kinds of examples. And it
    keeps DDP from rearranging its buckets after the first step, which would add up gradients in another order after a
    restart.
    """

    def __init__(self, model: nn.Module, learner: Learner, world: World) -> None:
        super().__init__()
        self.model, self.world = model, world
        self._learner = learner
        self._ddp: DistributedDataParallel | None = None
        if world.size > 1 and not is_sharded(model):
            wrapped = DistributedDataParallel(self, find_unused_parameters=True, forward_sync_buffers=False)
            object.__setattr__(self, "_ddp", wrapped)  # not a part of this module: it contains it

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The learner's terms, in containers that DDP looks into."""
        terms = self._learner.terms(batch)
        return dict(terms.loss), dict(terms.seen)

    def terms(self, batch: Mapping[str, Tensor]) -> Terms:
        """Sums over the asked things of one micro-batch."""
        return Terms(*(self if self._ddp is None else self._ddp)(batch))

    def agree(
        self, micro_batches: Sequence[Arrays]
    ) -> tuple[dict[str, float], int, list[tuple[Arrays, float]]]:
        """What all ranks ask in this step, their pieces, and this rank's micro-batches with a factor for the loss.

        The factor makes up for the mean that DDP and FSDP2 take over the ranks. A rank that must run the model without
        a share of its own runs it on another's, with factor 0: FSDP2 gathers weights in every pass, so there all ranks
        make as many; DDP needs one.
        """
        let_go(self.model)
        counts = add_up([dict(self._learner.counts(batch)) for batch in micro_batches])
        pieces = sum(len(batch["pieces"]) for batch in micro_batches)
        everyone = self.world.gather((counts, pieces, len(micro_batches)))
        mine = [(batch, float(self.world.size)) for batch in micro_batches]
        if self.world.size > 1:
            numbers = [number for *_, number in everyone]
            wanted = max(numbers) if is_sharded(self.model) else 1
            filler = micro_batches[0] if micro_batches else None
            if 0 in numbers:  # rank 0 always has a share
                lent = self.world.broadcast(filler)
                filler = lent if filler is None else filler
            mine += [(filler, 0.0) for _ in range(wanted - len(mine)) if filler is not None]
        return add_up([part for part, *_ in everyone]), sum(number for _, number, _ in everyone), mine

    def between(self, *, last: bool) -> AbstractContextManager[Any]:
        """Around a micro-batch's forward and backward pass: DDP adds up gradients in the last one only."""
        return nullcontext() if last or self._ddp is None else self._ddp.no_sync()


def shard(
    model: nn.Module, layers: Iterable[list[nn.Module]], world: World, *, methods: Sequence[str]
) -> None:
    """Cut weights, gradients and optimizer state of `model` over the ranks (FSDP2). Nothing for one rank.

    Args:
        layers: modules that run once a pass; each group's weights are gathered for its own pass and let go.
        methods: methods of `model` that begin a pass, beside `forward`.

    What is in no layer (tables, heads) is gathered once a pass, since a head may read the table of the embedding.
    """
    if world.size == 1:
        return
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    model.to(world.device)
    for group in layers:
        fully_shard(group)
    root = fully_shard(model)
    # Ranks may hold different kinds of examples: what one of them does not use counts as zero.
    root.set_reduce_scatter_unused_params(True)
    for method in methods:
        register_fsdp_forward_method(model, method)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has cut it."""
    return any(isinstance(module, Cut) for module in model.modules())


def let_go(model: nn.Module) -> None:
    """Forget weights that a pass gathered. The root's stay after an evaluation, and others may hold by now."""
    for module in model.modules():
        if isinstance(module, Cut):
            module.reshard()


def put_together(model: nn.Module) -> None:
    """Give all ranks whole weights in the place of cut ones; no rank can train after that. All ranks must call it."""
    let_go(model)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if is_cut(weight):
                setattr(module, name, nn.Parameter(whole(weight)))


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with cut ones put together, one after another, on rank 0; on the others they are left out.

    All ranks must call it.
    """
    found: dict[str, Tensor] = {}
    # By name: a mapping read from a file has another order in each process.
    for name, tensor in sorted(tensors.items()):
        one = whole(tensor)
        if not is_cut(tensor):
            found[name] = one
        elif ranks.is_first():
            found[name] = one.cpu()
    return found


def is_cut(tensor: Tensor) -> bool:
    """Whether it is a DTensor, of which each rank has a part; told as `Cut` is."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """A cut tensor put together on every rank; any other as it is. All ranks must call it."""
    put_together: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return put_together


def local(tensor: Any) -> Tensor:
    """This rank's part of a cut tensor, without a copy; any other as it is, without its gradient's history."""
    part: Tensor = tensor.to_local() if is_cut(tensor) else tensor
    return part.detach()


def cut_like(tensor: Tensor, like: Any) -> Tensor:
    """This rank's part of a whole tensor that all ranks hold, cut as `like` is."""
    if not is_cut(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
