"""Checkpoints of a training: everything that it needs to go on bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from jfeval.errors import UserError
from jfeval.models.training.ema import Ema
from jfeval.models.training.optimizers import Optimizers


class Checkpoints:
    """Checkpoints of one training: written beside, then renamed, so that the last good one survives a crash at any moment."""

    def __init__(self, folder: Path, signature: str, *, keep: int = 1, companion: Callable[[Path], None] | None = None) -> None:
        """Prepare.

        Args:
            folder: Where they lie.
            signature: Identifies settings and inputs; a checkpoint of another one is refused.
            keep: How many of the newest are kept.
            companion: Writes into every checkpoint what else is needed to use it without its training.
        """
        self.folder, self.signature, self.keep, self.companion = folder, signature, keep, companion

    def _complete(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if (p / "state.json").is_file())

    def save(self, step: int, seconds: float, module: nn.Module, optimizer: Optimizers, ema: Ema | None) -> None:
        """Write the state after `step` updates and drop checkpoints that are too old to keep."""
        final = self.folder / f"step-{step:08d}"
        work = self.folder / f"writing-{step:08d}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_model(module, str(work / "model.safetensors"))
        torch.save(optimizer.state_dict(), work / "optimizer.pt")
        if ema is not None:
            save_file(ema.shadow, work / "ema.safetensors")
        if self.companion is not None:
            self.companion(work)
        state = {"step": step, "seconds": seconds, "signature": self.signature, "ema_updates": ema.updates if ema else 0}
        (work / "state.json").write_text(json.dumps(state), "utf-8")
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
        for old in self._complete()[: -self.keep]:
            shutil.rmtree(old)

    def load(self, module: nn.Module, optimizer: Optimizers, ema: Ema | None) -> tuple[int, float]:
        """Restore the newest checkpoint; return the updates done and the seconds spent, (0, 0.0) where there is none.

        Raises:
            UserError: where the checkpoint belongs to other settings.
        """
        for leftover in self.folder.glob("writing-*"):
            shutil.rmtree(leftover)
        found = self._complete()
        if not found:
            return 0, 0.0
        newest = found[-1]
        state = json.loads((newest / "state.json").read_text("utf-8"))
        if state["signature"] != self.signature:
            raise UserError(f"{newest} was written under other settings; delete it, or run with --force to begin anew")
        load_model(module, newest / "model.safetensors")
        optimizer.load_state_dict(torch.load(newest / "optimizer.pt", weights_only=True))
        if ema is not None:
            ema.load(load_file(newest / "ema.safetensors"), state["ema_updates"])
        return state["step"], state["seconds"]

    def clear(self) -> None:
        """Delete every checkpoint: the training is finished and its result stored."""
        shutil.rmtree(self.folder, ignore_errors=True)
