"""Several processes on this machine, each with a state of its own.

Every worker has a pipe to this process and shares nothing with its siblings, so that one that is killed (by the system, when memory runs
out) holds no lock, takes nothing with it but its item, and is replaced.
"""

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic

from jfeval.cores import available_cores
from jfeval.executors import Item, Result, State

ATTEMPTS = 2
"""Workers that may die of an item before it is given up."""


class WorkerError(Exception):
    """An error in a worker that cannot be sent as it is; holds its words."""


class Processes(Generic[State]):
    """A pool of processes. They are started when there is work for them.

    Args:
        make: Makes a worker's state; sent to each.
        workers: How many at most.
        item_timeout: Seconds after which a worker that is silent over an item is replaced, and one that makes its state is given up.
        first: Number of the first worker among all that share this machine's cores and accelerators.
        of: How many those are; 0 for these alone.
    """

    def __init__(self, make: Callable[[], State], workers: int, item_timeout: float = math.inf, *, first: int = 0, of: int = 0) -> None:
        self._make, self._most, self._patience = make, workers, item_timeout
        self._first, self._of = first, of or workers
        self._workers: list[_Worker] = []

    def each(
        self, work: Callable[[State, Item], Result], items: Sequence[Item], lost: Callable[[Item, str], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Hand items out in order, one a worker; see `jfeval.executors.Pool`.

        Raises:
            WorkerError: A worker cannot even start.
        """
        waiting = deque((item, 0) for item in items)
        while len(self._workers) < min(self._most, len(items)):
            self._workers.append(_Worker(self._make, self._first + len(self._workers), self._of))
        while waiting or any(worker.task for worker in self._workers):
            for worker in self._workers:
                if waiting and worker.ready and worker.task is None:
                    worker.give(work, waiting.popleft())
            for worker in self._heard():
                reply, task = worker.take() if worker.pipe.poll() else worker.give_up(self._patience)
                if isinstance(reply, _Died):
                    if task is None:
                        raise WorkerError(f"a worker process ended before it was ready ({reply.reason})")
                    item, deaths = task
                    self._workers[self._workers.index(worker)] = _Worker(self._make, worker.number, self._of)
                    if deaths + 1 < ATTEMPTS:
                        waiting.appendleft((item, deaths + 1))
                    else:
                        yield item, lost(item, f"{ATTEMPTS} worker processes ended while they worked on it ({reply.reason})")
                elif task is not None:
                    yield task[0], reply

    def _heard(self) -> "list[_Worker]":
        """Wait for workers that have something to say, or that have been silent for too long."""
        asked = [worker for worker in self._workers if worker.task or not worker.ready]
        soonest = min(worker.since for worker in asked) + self._patience - time.monotonic()
        ready = wait([worker.pipe for worker in asked], None if math.isinf(soonest) else max(soonest, 0.0))
        late = time.monotonic() - self._patience
        return [worker for worker in asked if worker.pipe in ready or worker.since <= late]

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._workers:
            worker.end()


@contextmanager
def in_processes(
    make: Callable[[], State], *, workers: int, item_timeout: float = math.inf, first: int = 0, of: int = 0
) -> Iterator[Processes[State]]:
    """Open a pool of processes on this machine; leaving it ends them. The arguments are those of `Processes`."""
    pool = Processes(make, workers, item_timeout, first=first, of=of)
    try:
        yield pool
    finally:
        pool.close()


# this side of the pipe


class _Died:
    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Worker:
    def __init__(self, make: Callable[[], Any], number: int, of: int) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use an accelerator
        self.pipe, theirs = context.Pipe()
        self.number, self.ready = number, False
        self.task: tuple[Any, int] | None = None
        self.since = time.monotonic()
        """When something was last heard of it, or given to it."""
        self._process = context.Process(target=_serve, args=(theirs, make, number, of), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, work: Callable[[Any, Any], Any], task: tuple[Any, int]) -> None:
        """Send a task; that the worker has died meanwhile is learned when its answer is taken."""
        self.task, self.since = task, time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send((work, task[0]))

    def take(self) -> tuple[Any, tuple[Any, int] | None]:
        """Return the answer and the task that it answers; no task where the worker has only become ready.

        Raises:
            Exception: What the worker raised.
        """
        task = self.task
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.end()
            return _Died(_reason(self._process.exitcode)), task
        self.task, self.since = None, time.monotonic()
        if kind == "failed":
            raise value
        self.ready = True
        return value, task

    def give_up(self, patience: float) -> tuple[_Died, tuple[Any, int] | None]:
        """End a worker that is silent; return why, and the task that it leaves."""
        self.end()
        return _Died(f"no word in {patience:g} seconds; --item-timeout sets how long to wait"), self.task

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, which the system sends when memory runs out" if name == "SIGKILL" else name


# the other side


def _serve(pipe: Connection, make: Callable[[], Any], number: int, of: int) -> None:
    """Answer until nobody asks; runs in the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's word is for the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _settle(number, of)
    state: Any = None
    try:
        state = make()
        pipe.send(("ready", None))
        while True:
            work, item = pipe.recv()
            try:
                reply = ("done", work(state, item))
            except Exception as error:
                reply = ("failed", _sendable(error))
            pipe.send(reply)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        pipe.send(("failed", _sendable(error)))


def _end_with_parent() -> None:
    """End this process with the one that started it, however that ends, so that nothing goes on in a folder that is no longer held."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _settle(number: int, of: int) -> None:
    """Share cores and accelerators with the siblings, before anything that counts them is imported."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // of)))
    if Path("/dev/nvidia1").exists():  # more than one accelerator
        import torch

        if torch.cuda.device_count():
            torch.cuda.set_device(number % torch.cuda.device_count())


def _sendable(error: Exception) -> Exception:
    """Return the error, or its words where it does not survive being sent."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        return WorkerError(f"{type(error).__name__}: {error}")
    return error
