"""Going on with smaller batches where one does not fit into memory."""

import logging
from collections.abc import Callable
from typing import TypeVar

from jfeval.memory import is_out_of_memory, release_memory

T = TypeVar("T")

log = logging.getLogger(__name__)


def in_batches(count: int, size: int, run: Callable[[slice], T]) -> list[T]:
    """Run ``count`` items in batches of at most ``size``, halving the batch where memory runs out.

    Args:
        count: How many items there are.
        size: Items per batch to begin with.
        run: Processes the items of a slice; must not keep anything of a failed call.

    Returns:
        The results of the batches in order.

    Raises:
        RuntimeError: One item alone does not fit; the error is that of the allocation.
    """
    results: list[T] = []
    start = 0
    while start < count:
        try:
            results.append(run(slice(start, min(start + size, count))))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            size = max(1, min(size, count - start) // 2)
            log.warning("memory ran out; going on with batches of %d", size)
        else:
            start += size
            continue
        release_memory()  # out here, where the error no longer holds what did not fit
    return results
