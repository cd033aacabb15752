"""torch.compile where it works: a machine without a compiler goes on without it, and is told so once."""

import logging
from collections.abc import Iterable
from functools import cache

import torch
from torch import nn

log = logging.getLogger(__name__)


@cache
def compiles(device: str) -> bool:
    """Try torch.compile once on ``device``; where it fails, warn with the cause.

    On a CPU it needs a C++ compiler and Python's headers, on a GPU Triton.
    """
    try:
        torch.compile(torch.nn.functional.gelu)(torch.ones(8, device=device))
    except Exception as error:  # every backend fails in its own way, and none of them is worth a run
        cause = (str(error).strip().splitlines() or [""])[0][:200]
        log.warning("torch.compile does not work here, so nothing is compiled (slower, same results): %s: %s", type(error).__name__, cause)
        return False
    return True


def compile_each(modules: Iterable[nn.Module], device: str) -> None:
    """Compile modules one by one, each for fixed shapes: one compilation serves all of a kind. Does nothing where `compiles` is false."""
    if compiles(device):
        for module in modules:
            module.compile(dynamic=False)
