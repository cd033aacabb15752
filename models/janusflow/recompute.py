"""Activation checkpointing: a block's inside is computed again in the backward pass instead of being kept."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputing(nn.Module):
    """A module that runs a stack of blocks, and may keep only their inputs in training."""

    recompute: bool = False
    """Keep only each block's input: much less memory, about a third slower, the same gradients. Acts in training mode."""

    def through(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the block's own
        """Run one block."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False, **kwargs)
        return block(*args, **kwargs)
