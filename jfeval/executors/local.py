"""In this process, one item after the other; the model's own threads use the cores."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic

from jfeval.executors import Item, Result, State


class Here(Generic[State]):
    """A pool of one worker, which is this process."""

    def __init__(self, state: State) -> None:
        self._state = state

    def each(
        self,
        work: Callable[[State, Item], Result],
        items: Sequence[Item],
        lost: Callable[[Item, str], Result],  # noqa: ARG002 - if this process dies, nobody is left to ask
    ) -> Iterator[tuple[Item, Result]]:
        """Apply ``work`` to each item in order; see `jfeval.executors.Pool`."""
        for item in items:
            yield item, work(self._state, item)


@contextmanager
def in_this_process(make: Callable[[], State]) -> Iterator[Here[State]]:
    """Open a pool of this process alone."""
    yield Here(make())
