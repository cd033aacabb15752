"""What memory there is, and what to do when it runs out; asks torch only where the model has loaded it."""

import gc
import sys
from collections.abc import Callable

_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "std::bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out: torch's own error, Python's, or an allocator's words in another."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def release_memory() -> None:
    """Give unused memory back, so that a smaller attempt finds it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure(call: Callable[[], object]) -> tuple[int, int] | None:
    """Return how many bytes of accelerator memory a call took at its highest, beyond what was held before, and how many were free.

    Returns:
        None where no accelerator is used: main memory cannot be measured for one call.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    release_memory()
    torch.cuda.synchronize()
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - held, free
