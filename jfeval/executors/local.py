"""In this process, one batch after the other; the model's own threads use the cores."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_locally(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Apply ``work`` to each item in order and yield each item with its result as soon as that is there."""
    for item in items:
        yield item, work(item)
