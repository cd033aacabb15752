"""A module divided among processes by FSDP2, and its tensors put together again.

Each process holds a part of every tensor, of its gradient and of the optimiser's state; a block's weights are gathered while it runs.
Source: Zhao et al., "PyTorch FSDP", arXiv 2304.11277; Rajbhandari et al., "ZeRO", arXiv 1910.02054.

FSDP gathers when a module's ``forward`` begins, and every process must gather the same modules in the same order. So the whole loss is
one module's forward pass, the blocks that every batch runs through are divided one by one, and whatever a batch may leave out (an encoder,
a vocabulary) is gathered once with the whole.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

if TYPE_CHECKING:
    from jfeval.models.training.loop import Objective

Loss = Callable[[Any], tuple[Tensor, Mapping[str, Tensor | float]]]


class _LossModule(nn.Module):
    """An objective's loss as a forward pass."""

    def __init__(self, module: nn.Module, loss: Loss, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.module, self._loss = module, loss
        inside = {id(p) for block in blocks for p in block.parameters()}
        self._outside = [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in inside]

    def forward(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:  # noqa: ANN401 - the objective's own
        """Return the loss and its parts; a parameter that this batch does not use gets a gradient of zero, as other processes' may not."""
        total, parts = self._loss(batch)
        touched = [self.module.get_parameter(name).flatten()[:0].sum() for name in self._outside]
        return (total + torch.stack(touched).sum() if touched else total), parts


def divided(objective: "Objective[Any]", device: str, processes: int) -> Loss:
    """Divide an objective's module among the processes, in place, and return its loss.

    Args:
        objective: Its ``blocks()``, where it has them, are the modules that every batch runs through equally often.
        device: Where the module already is.
        processes: How many there are; all must call this.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    blocks: Sequence[nn.Module] = getattr(objective, "blocks", list)()
    whole_loss = _LossModule(objective.module, objective.loss, blocks)
    mesh = init_device_mesh(torch.device(device).type, (processes,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(whole_loss, mesh=mesh)
    return whole_loss


def whole(tensor: Tensor) -> Tensor:
    """Return a divided tensor in one piece, and any other as it is; all processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """Divide a whole tensor as another one is, and put it where that is."""
    placed = tensor.to(other.device)
    if not isinstance(other, DTensor):
        return placed
    return distribute_tensor(placed, other.device_mesh, other.placements, src_data_rank=None)


def stored_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what a checkpoint of a module holds, each tensor once, divided or not: names and the module's own tensors."""
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor.detach()


def moved(value: Any, device: str) -> Any:  # noqa: ANN401 - a batch of any kind, as it was
    """Return a batch with every tensor in it on a device; dataclasses and tuples are looked into."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        return dataclasses.replace(
            value,
            **{
                name: moved(held, device)
                for name, held in fields.items()
                if isinstance(held, Tensor | tuple) or dataclasses.is_dataclass(held)
            },
        )
    if isinstance(value, tuple) and any(isinstance(held, Tensor) for held in value):
        return tuple(moved(held, device) for held in value)
    return value
