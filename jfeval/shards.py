"""Writing a run's outputs and judgements: one SQLite file per writing process, one transaction per batch."""

import errno
import json
import os
import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType

from jfeval.schema import Judgement, Output

_TABLES = """
CREATE TABLE IF NOT EXISTS outputs (
    fingerprint TEXT NOT NULL, sample_id TEXT NOT NULL, batch TEXT NOT NULL, images TEXT NOT NULL, text TEXT NOT NULL,
    error TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (fingerprint, sample_id));
CREATE TABLE IF NOT EXISTS judgements (
    fingerprint TEXT NOT NULL, sample_id TEXT NOT NULL, observations TEXT NOT NULL, error TEXT NOT NULL,
    seconds REAL NOT NULL, PRIMARY KEY (fingerprint, sample_id));
"""


WORKER = "local"
"""The shard of a process that writes a run alone."""


class Shard:
    """One writer's rows. Rows are added whole batches at a time; what was added survives the process.

    Args:
        folder: The run folder.
        worker: Names the file; one open shard per name.
        alone: Nothing else reads the run meanwhile, so that a write-ahead log can save flushing each batch. Such a log cannot be shared
            by machines: where several write one run, each leaves it.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, folder: Path, worker: str = WORKER, *, alone: bool = True) -> None:
        self.path = folder / "shards" / f"{worker}.sqlite"
        self._alone = alone
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
            connection.execute(f"PRAGMA journal_mode={'WAL' if self._alone else 'DELETE'}")
            connection.execute(f"PRAGMA synchronous={'NORMAL' if self._alone else 'FULL'}")
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
        for extra in ("-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + extra).unlink(missing_ok=True)
        return aside


def mend(folder: Path) -> list[Path]:
    """Finish what killed writers left half done in any shard of a run whose lock is held, and set aside what cannot be read.

    Returns:
        Damaged shards, under their new names.
    """
    aside: list[Path] = []
    for path in sorted((folder / "shards").glob("*.sqlite")):
        with Shard(folder, path.stem) as shard:
            aside += [shard.set_aside] if shard.set_aside else []
    return aside


def remove_samples(folder: Path, sample_ids: Collection[str]) -> None:
    """Forget samples in every shard of a run whose lock is held."""
    for path in sorted((folder / "shards").glob("*.sqlite")):
        with Shard(folder, path.stem) as shard:
            shard.remove(sample_ids)


def _as_os_error(error: sqlite3.OperationalError) -> OSError:
    """Turn SQLite's report of a full or read-only disk into the system's own, so that one handler serves both."""
    text = str(error)
    code = errno.ENOSPC if "full" in text else errno.EROFS if "readonly" in text else errno.EIO
    return OSError(code, f"{os.strerror(code)} ({text})")
