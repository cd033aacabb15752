"""An exponential moving average of weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jfeval.models.training.sharding import like


class Ema:
    """Keeps a slowly moving float32 copy of a module's trainable parameters.

    After update number n (from 1) the decay is ``min(decay, (1 + n) / (10 + n))``: early weights, which are noise, are forgotten
    quickly. Source: the warm-up of ``tf.train.ExponentialMovingAverage(num_updates=...)``. The paper states the decay 0.99
    (section 4.2) and no warm-up; `warmup=False` gives that.
    """

    def __init__(self, module: nn.Module, decay: float, *, warmup: bool = True) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"EMA decay must lie between 0 and 1, got {decay}")
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.shadow: dict[str, Tensor] = {name: p.detach().clone().float() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        for name, p in self._live.items():
            self.shadow[name].lerp_(p.detach().float(), 1.0 - decay)

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Overwrite the module's weights by the average."""
        for name, p in self._live.items():
            p.copy_(self.shadow[name])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Run a block with the averaged weights in place, then put the live ones back."""
        live = {name: p.detach().clone() for name, p in self._live.items()}
        self.copy_to_module()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in self._live.items():
                    p.copy_(live[name])

    def load(self, shadow: dict[str, Tensor], updates: int) -> None:
        """Continue from a stored average.

        Raises:
            ValueError: where the names differ from the module's trainable parameters.
        """
        if shadow.keys() != self.shadow.keys():
            raise ValueError(f"stored EMA names differ: {sorted(shadow.keys() ^ self.shadow.keys())[:5]}")
        for name, value in shadow.items():
            self.shadow[name].copy_(like(value, self.shadow[name]))
        self.updates = updates
