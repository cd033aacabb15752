"""Workers as actors on a Ray cluster, one item each at a time.

A worker whose node is lost, that is killed, or that says nothing for too long is replaced, and its item given to another. Results come
back to this process, which alone writes the run's rows: no database is shared between machines. Pictures are written by the workers under
their content's hash, so the run folder must lie where all nodes see it, under the same path.
"""

import importlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic

from jfeval.errors import UserError
from jfeval.executors import Item, Result, State

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Workers that may be lost over an item before it is given up; a lost node is no fault of the item, so more than on one machine."""
_LOOK_EVERY_SECONDS = 1.0


class _Actor:
    """Lives on the cluster. The state is made with the first item, so that an error in making it is an error of that item."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._state = make, None

    def ready(self) -> bool:
        """Answer as soon as the cluster has found a place for it."""
        return True

    def work(self, function: Callable[[Any, Any], Any], item: object) -> object:
        """Apply a function of the state to an item."""
        if self._state is None:
            self._state = self._make()
        return function(self._state, item)


class _Busy:
    """An actor with what it works on."""

    def __init__(self, actor: Any, task: tuple[Any, int], began: float) -> None:  # noqa: ANN401 - Ray's handles have no public type
        self.actor, self.task, self.began = actor, task, began


class OnRay(Generic[State]):
    """A pool of actors. They are started when there is work for them.

    Args:
        ray: The module.
        make: Makes a worker's state; sent to each.
        workers: How many at most.
        gpus: Share of an accelerator for each.
        item_timeout: Seconds after which a silent worker is replaced; the first item includes making the state.
    """

    def __init__(self, ray: Any, make: Callable[[], State], *, workers: int, gpus: float, item_timeout: float) -> None:  # noqa: ANN401
        self._ray, self._make, self._most, self._patience = ray, make, workers, item_timeout
        self._remote = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Actor)
        self._starting: dict[Any, Any] = {}  # actors that wait for a place on the cluster, by their first answer
        self._idle: list[Any] = []
        self._busy: dict[Any, _Busy] = {}

    def each(
        self, work: Callable[[State, Item], Result], items: Sequence[Item], lost: Callable[[Item, str], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Hand items out in order, one an actor; see `jfeval.executors.Pool`."""
        waiting = deque((item, 0) for item in items)
        while waiting or self._busy:
            self._start(len(waiting))
            while waiting and self._idle:
                self._give(work, waiting.popleft())
            done, _ = self._ray.wait([*self._busy, *self._starting], num_returns=1, timeout=_LOOK_EVERY_SECONDS)
            self._welcome([reference for reference in done if reference in self._starting])
            for reference in {*(reference for reference in done if reference in self._busy), *self._silent()}:
                busy = self._busy.pop(reference)
                item, losses = busy.task
                try:
                    result = self._ray.get(reference) if reference in done else self._given_up(busy)
                except (self._ray.exceptions.RayActorError, _SilentError) as error:
                    log.warning("a worker was lost (%s); its work goes to another", _reason(error))
                    if losses + 1 < ATTEMPTS:
                        waiting.appendleft((item, losses + 1))
                    else:
                        yield item, lost(item, f"{ATTEMPTS} workers were lost over it ({_reason(error)})")
                except self._ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, Exception) else error from None
                else:
                    self._idle.append(busy.actor)
                    yield item, result

    def close(self) -> None:
        """End the actors, whatever they do."""
        for actor in [*self._starting.values(), *self._idle, *(busy.actor for busy in self._busy.values())]:
            self._ray.kill(actor)
        self._starting.clear()
        self._idle.clear()
        self._busy.clear()

    def _start(self, wanted: int) -> None:
        """Ask the cluster for more actors where there is work for them; those for which it has no place go on waiting for one."""
        missing = min(wanted - len(self._idle) - len(self._starting), self._most - len(self._busy) - len(self._idle) - len(self._starting))
        for _ in range(missing):
            actor = self._remote.remote(self._make)
            self._starting[actor.ready.remote()] = actor

    def _welcome(self, answered: Sequence[Any]) -> None:
        """Give actors that have found a place to the idle ones; forget those whose node was lost meanwhile."""
        for reference in answered:
            actor = self._starting.pop(reference)
            try:
                self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                log.warning("a worker was lost before it began (%s)", _reason(error))
            else:
                self._idle.append(actor)

    def _give(self, work: Callable[[State, Item], Result], task: tuple[Item, int]) -> None:
        actor = self._idle.pop()
        self._busy[actor.work.remote(work, task[0])] = _Busy(actor, task, time.monotonic())

    def _silent(self) -> list[Any]:
        """List what has not come back in time."""
        latest = time.monotonic() - self._patience
        return [reference for reference, busy in self._busy.items() if busy.began < latest]

    def _given_up(self, busy: _Busy) -> Any:  # noqa: ANN401
        self._ray.kill(busy.actor)
        raise _SilentError(f"no answer in {self._patience:g} s")


class _SilentError(Exception):
    """A worker said nothing for too long."""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def on_ray(
    make: Callable[[], State], *, workers: int, address: str = "", gpus: float = 0.0, item_timeout: float = 3600.0
) -> Iterator[OnRay[State]]:
    """Open a pool on a Ray cluster; a cluster that was started for it ends with it.

    Args:
        make: Makes a worker's state.
        workers: How many actors.
        address: The cluster to join, ``auto`` to find one; empty for the one that this process is connected to, or else a new one here.
        gpus: Share of an accelerator for each actor.
        item_timeout: Seconds after which a silent worker is replaced.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise UserError("--executor ray needs Ray, which is not installed: pip install 'jfeval[cluster]'") from error
    ours = not ray.is_initialized()
    if ours:
        where: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"there is no Ray cluster at {address or 'this machine'}: {_reason(error)}") from error
    pool = OnRay(ray, make, workers=workers, gpus=gpus, item_timeout=item_timeout)
    try:
        yield pool
    finally:
        pool.close()
        if ours:
            ray.shutdown()
