"""Checkpoints of a training: everything that it needs to go on bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.training.ema import Ema
from jfeval.models.training.optimizers import Optimizers
from jfeval.models.training.ranks import ALONE, Ranks
from jfeval.models.training.sharding import like, stored_tensors, whole

EMA_FILE = "ema.safetensors"
CHECKPOINTS_FOLDER = "checkpoints"
"""Where they lie in a part's folder, until the part is finished."""
_STATE_FILE = "state.json"


def complete(folder: Path) -> list[Path]:
    """List the whole checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / _STATE_FILE).is_file())


def foreign(folder: Path, signature: str) -> list[Path]:
    """List the checkpoints in a folder that a training of this signature would refuse, oldest first."""
    return [p for p in complete(folder) if _state(p)["signature"] != signature]


def adopt(checkpoint: Path, signature: str) -> None:
    """Let a training of this signature go on from a checkpoint."""
    beside = checkpoint / f"{_STATE_FILE}.writing"
    beside.write_text(json.dumps({**_state(checkpoint), "signature": signature}), "utf-8")
    beside.replace(checkpoint / _STATE_FILE)


def _state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / _STATE_FILE).read_text("utf-8"))


class Checkpoints:
    """Checkpoints of one training: written beside, then renamed, so that the last good one survives a crash at any moment.

    A checkpoint is the same whatever the number of processes that wrote it, and any number can go on from it.
    """

    def __init__(
        self, folder: Path, signature: str, *, keep: int = 1, companion: Callable[[Path], None] | None = None, ranks: Ranks = ALONE
    ) -> None:
        """Prepare.

        Args:
            folder: Where they lie.
            signature: Identifies settings and inputs; a checkpoint of another one is refused.
            keep: How many of the newest are kept.
            companion: Writes into every checkpoint what else is needed to use it without its training.
            ranks: The processes that train; all save and load together, and the first one writes.
        """
        self.folder, self.signature, self.keep, self.companion, self.ranks = folder, signature, keep, companion, ranks

    def save(self, step: int, seconds: float, module: nn.Module, optimizer: Optimizers, ema: Ema | None) -> None:
        """Write the state after `step` updates and drop checkpoints that are too old to keep."""

        def collect(tensor: Tensor) -> Tensor:
            full = whole(tensor)
            return full.cpu().contiguous() if self.ranks.first else full.new_empty(0)

        weights = {name: collect(tensor) for name, tensor in stored_tensors(module)}
        moments = optimizer.state_dict(collect)
        averages = {name: collect(tensor) for name, tensor in ema.shadow.items()} if ema is not None else None
        if not self.ranks.first:
            return
        final = self.folder / f"step-{step:08d}"
        work = self.folder / f"writing-{step:08d}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_file(weights, work / "model.safetensors")
        torch.save(moments, work / "optimizer.pt")
        if averages is not None:
            save_file(averages, work / EMA_FILE)
        if self.companion is not None:
            self.companion(work)
        state = {"step": step, "seconds": seconds, "signature": self.signature, "ema_updates": ema.updates if ema else 0}
        (work / _STATE_FILE).write_text(json.dumps(state), "utf-8")
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
        for old in complete(self.folder)[: -self.keep]:
            shutil.rmtree(old)

    def load(self, module: nn.Module, optimizer: Optimizers, ema: Ema | None) -> tuple[int, float]:
        """Restore the newest checkpoint; return the updates done and the seconds spent, (0, 0.0) where there is none.

        Raises:
            UserError: The checkpoint belongs to other settings, or holds something else than what is trained; names what.
        """
        if self.ranks.first:
            for leftover in self.folder.glob("writing-*"):
                shutil.rmtree(leftover)
        found = complete(self.folder)
        if not found:
            return 0, 0.0
        newest = found[-1]
        state = _state(newest)
        if state["signature"] != self.signature:
            raise UserError(
                f"{newest} was written under other settings; move it away, or go on from it all the same with `jfeval train --force`"
            )
        _fill(module, load_file(newest / "model.safetensors"))
        optimizer.load_state_dict(torch.load(newest / "optimizer.pt", weights_only=True, map_location="cpu", mmap=True))
        if ema is not None:
            if not (newest / EMA_FILE).is_file():
                raise UserError(f"{newest} holds no moving average of the weights; go on from it with loop.ema=0")
            try:
                ema.load(load_file(newest / EMA_FILE), state["ema_updates"])
            except ValueError as error:
                raise UserError(f"{newest} holds the average of other weights than are trained: {error}") from error
        return state["step"], state["seconds"]

    def clear(self) -> None:
        """Delete every checkpoint: the training is finished and its result stored."""
        shutil.rmtree(self.folder, ignore_errors=True)


@torch.no_grad()
def _fill(module: nn.Module, stored: dict[str, Tensor]) -> None:
    """Overwrite a module's tensors, divided or not, by stored ones.

    Raises:
        UserError: One is missing or of another shape.
    """
    filled: set[int] = set()
    tensors = module.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        if name in stored and id(tensor) not in filled:
            if stored[name].shape != tensor.shape:
                raise UserError(f"the checkpoint's {name} has shape {list(stored[name].shape)}, the model's {list(tensor.shape)}")
            tensor.detach().copy_(like(stored[name], tensor))
            filled.add(id(tensor))
    if missing := [name for name, tensor in tensors.items() if id(tensor) not in filled]:
        raise UserError(f"the checkpoint lacks {len(missing)} tensors, among them {missing[0]}")
