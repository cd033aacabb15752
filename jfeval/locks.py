"""Who may write a run folder: one process for the whole of it, or several that each hold another fixed share."""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jfeval.errors import UserError

if TYPE_CHECKING:
    from jfeval.plan import Batch

log = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_RECORD = "lock-record"


@dataclass(frozen=True, kw_only=True)
class Share:
    """One of ``of`` equal parts of a run's batches, for schedulers that start the same command many times."""

    index: int
    """From 1 to ``of``."""
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of:
            raise UserError(f"shard {self.index}/{self.of}: shards count from 1, so that 1/{self.of} is the first of {self.of}")

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``2/8``.

        Raises:
            UserError: It is not of this form, or not from 1 to the number of shards.
        """
        index, _, of = text.partition("/")
        if not (index.isdecimal() and of.isdecimal()):
            raise UserError(f"--shard needs I/N, for example 2/8, not {text!r}")
        return cls(index=int(index), of=int(of))

    @property
    def name(self) -> str:
        """A word for files: other for every share."""
        return f"share-{self.index}-of-{self.of}"

    def choose(self, batches: "tuple[Batch, ...]") -> "tuple[Batch, ...]":
        """Return every ``of``-th batch, so that shares are alike where samples get harder along the list."""
        return batches[self.index - 1 :: self.of]


def is_lock(name: str) -> bool:
    """Tell whether a file name is one of a run folder's locks."""
    return name == "lock" or name.startswith("lock-")


@contextlib.contextmanager
def single_writer(folder: Path, part: str = "") -> Iterator[None]:
    """Hold a run folder, or one named part of it (a share, a stage), for this process; the lock ends with the process, however it ends.

    Raises:
        UserError: Another process writes here, or the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        _hold(held, folder / "lock", folder, shared=bool(part))
        if part:
            _hold(held, folder / f"lock-{part}", folder, shared=False)
        yield


def is_held(folder: Path, part: str) -> bool:
    """Tell whether another process holds a part whose name begins so."""
    for path in folder.glob(f"lock-{part}*"):
        with _opened(path) as file:
            try:
                _flock(file, shared=False, wait=False)
            except BlockingIOError:
                return True
    return False


@contextlib.contextmanager
def record_held(folder: Path) -> Iterator[None]:
    """Wait for and hold the right to read and rewrite the run's record, which shares of one run do at the same time."""
    with _opened(folder / _RECORD) as file:
        _flock(file, shared=False, wait=True)
        yield


def _hold(held: contextlib.ExitStack, path: Path, folder: Path, *, shared: bool) -> None:
    file = held.enter_context(_opened(path))
    try:
        _flock(file, shared=shared, wait=False)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(200).strip() or "unknown"
        message = f"{folder} is being written by another process ({holder}). Wait until it ends, or give another --out."
        raise UserError(message) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the run folder {path.parent}: {error.strerror or error}. Copy the run to where it can be."
        ) from error


def _flock(file: IO[str], *, shared: bool, wait: bool) -> None:
    """Lock an open file; a file system without locks is named once and trusted."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: SQLite's own locks remain
        return
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s lies on a file system without locks; see to it that no other process writes this run", file.name)
