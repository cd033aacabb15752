"""Writing a run's outputs and judgements: one SQLite file per writing process, one transaction per batch, one writer per folder."""

import contextlib
import errno
import json
import os
import socket
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from jfeval.errors import UserError
from jfeval.schema import Judgement, Output

_TABLES = """
CREATE TABLE IF NOT EXISTS outputs (
    fingerprint TEXT NOT NULL, sample_id TEXT NOT NULL, batch TEXT NOT NULL, images TEXT NOT NULL, text TEXT NOT NULL,
    error TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (fingerprint, sample_id));
CREATE TABLE IF NOT EXISTS judgements (
    fingerprint TEXT NOT NULL, sample_id TEXT NOT NULL, observations TEXT NOT NULL, error TEXT NOT NULL,
    seconds REAL NOT NULL, PRIMARY KEY (fingerprint, sample_id));
"""


class Shard:
    """One writer's rows. Rows are added whole batches at a time; what was added survives the process.

    Args:
        folder: The run folder.
        worker: Names the file; one open shard per name.

    Raises:
        UserError: The file cannot be made.
    """

    def __init__(self, folder: Path, worker: str = "local") -> None:
        self.path = folder / "shards" / f"{worker}.sqlite"
        self.set_aside: Path | None = None
        """Where a damaged file of this name was moved to, if there was one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _as_os_error(error) from error
            self.set_aside = self._move_damaged()
            self._connection = self._connect()

    def __enter__(self) -> "Shard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; SQLite folds its write-ahead log into it, unless the disk is full, and then the two are read together."""
        self._connection.close()

    def add_outputs(self, fingerprint: str, batch: str, outputs: Iterable[Output]) -> None:
        """Store a batch's outputs in one transaction, replacing rows of the same samples."""
        rows = [(fingerprint, o.sample_id, batch, json.dumps(o.images), o.text, o.error, o.seconds) for o in outputs]
        self._insert("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def add_judgements(self, fingerprint: str, judgements: Iterable[tuple[Judgement, float]]) -> None:
        """Store judgements, each with the seconds it took, in one transaction."""
        rows = [(fingerprint, j.sample_id, json.dumps(j.observations, sort_keys=True), j.error, seconds) for j, seconds in judgements]
        self._insert("INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?, ?)", rows)

    def batches(self, fingerprint: str) -> Mapping[str, str]:
        """Return the batch key of each stored sample id."""
        return dict(self._connection.execute("SELECT sample_id, batch FROM outputs WHERE fingerprint = ?", (fingerprint,)))

    def remove(self, sample_ids: Collection[str]) -> None:
        """Forget everything stored for these samples."""
        rows = [(sample_id,) for sample_id in sample_ids]
        self._insert("DELETE FROM outputs WHERE sample_id = ?", rows)
        self._insert("DELETE FROM judgements WHERE sample_id = ?", rows)

    def _insert(self, statement: str, rows: list[tuple]) -> None:
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
        except sqlite3.OperationalError as error:
            raise _as_os_error(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLES)
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_damaged(self) -> Path:
        """Rename the file and what belongs to it out of the way; it is kept, because a person may want to look."""
        number = 1
        while (aside := self.path.with_suffix(f".damaged{number}")).exists():
            number += 1
        self.path.replace(aside)
        for extra in ("-wal", "-shm"):
            self.path.with_name(self.path.name + extra).unlink(missing_ok=True)
        return aside


def remove_samples(folder: Path, sample_ids: Collection[str]) -> None:
    """Forget samples in every shard of a run whose lock is held."""
    for path in sorted((folder / "shards").glob("*.sqlite")):
        with Shard(folder, path.stem) as shard:
            shard.remove(sample_ids)


@contextlib.contextmanager
def single_writer(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process; the lock ends with the process, however it ends.

    Raises:
        UserError: Another process writes here.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system: SQLite's own locks remain
        yield
        return
    path = folder / "lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(200).strip() or "unknown"
            message = f"{folder} is being written by another process ({holder}). Wait until it ends, or give another --out."
            raise UserError(message) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _as_os_error(error: sqlite3.OperationalError) -> OSError:
    """Turn SQLite's report of a full or read-only disk into the system's own, so that one handler serves both."""
    text = str(error)
    code = errno.ENOSPC if "full" in text else errno.EROFS if "readonly" in text else errno.EIO
    return OSError(code, f"{os.strerror(code)} ({text})")
