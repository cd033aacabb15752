"""Ways of carrying a plan out: in this process, in several on this machine, or on many machines.

Each opens a `Pool` of workers. A worker holds a state that is expensive to make (a loaded model, a judge) and applies functions of that
state to items. Which items there are, and what is done with their results, is the runner's business; results come back to one process,
which alone writes the run's rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
State = TypeVar("State")
Held = TypeVar("Held", covariant=True)


class Pool(Protocol[Held]):
    """Workers that each hold a state."""

    def each(
        self, work: Callable[[Held, Item], Result], items: Sequence[Item], lost: Callable[[Item, str], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield every item with what ``work`` makes of it, as soon as that is there and in any order.

        Args:
            work: A function of a worker's state and an item; from a module, so that it can be sent.
            items: What to do.
            lost: Makes a result, here, for an item that no worker survived, from the reason.
        """
        ...


Executor: TypeAlias = Callable[[Callable[[], State]], AbstractContextManager[Pool[State]]]
"""Opens a pool whose workers each call the function once; it is sent to them, unless they are this process."""
