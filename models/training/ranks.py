"""Several processes that train one model: who is who, and what they tell one another.

``torchrun`` starts the processes and tells each its number. Every update's batches are dealt out among them in turn, so that together they
see what one process would see, whatever their number; see `jfeval.models.training.sharding` for how the model is divided.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from jfeval.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which makes the parts that are not divided."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that train together, as one of them sees them."""

    rank: int = 0
    """This process's number, from 0."""
    size: int = 1
    local_rank: int = 0
    """Its number on its machine, which is its GPU's."""
    local_size: int = 1
    """Processes on its machine."""
    group: "ProcessGroup | None" = None
    """Carries what is told; None for a process alone."""

    @property
    def first(self) -> bool:
        """Whether this is the process that logs and writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier(self.group)

    def gather(self, value: T) -> list[T]:
        """Return what every process brought, in their order; all must call this."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found  # pyright: ignore[reportReturnType] - all are filled

    def device(self, setting: str) -> str:
        """Turn a `LoopSettings.device` into this process's device.

        Raises:
            UserError: There is no such device, or several processes would share one GPU.
        """
        from jfeval.models.placing import check_device, choose_device

        check_device(setting)
        chosen = choose_device(setting)
        if self.size == 1 or chosen == "cpu":
            return chosen
        import torch

        if chosen != "cuda":
            raise UserError(f"loop.device={setting} names one GPU for {self.size} processes; say cuda, and each takes its own")
        if self.local_size > torch.cuda.device_count():
            raise UserError(f"{self.local_size} processes on a machine of {torch.cuda.device_count()} GPUs; start one per GPU")
        return f"cuda:{self.local_rank}"


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, for a block; `ALONE` where it started none or one.

    All but the first process log errors only.
    """
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    import torch

    local = int(os.environ["LOCAL_RANK"])
    gpu = torch.cuda.is_available() and torch.cuda.device_count() > local
    if gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    logger = logging.getLogger("jfeval")
    level = logger.level
    try:
        ranks = Ranks(
            rank=dist.get_rank(),
            size=dist.get_world_size(),
            local_rank=local,
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
            group=dist.new_group(backend="gloo", timeout=_PATIENCE),  # pyright: ignore[reportArgumentType] - of all processes
        )
        if not ranks.first:
            logger.setLevel(logging.ERROR)
        yield ranks
    finally:
        logger.setLevel(level)
        dist.destroy_process_group()
