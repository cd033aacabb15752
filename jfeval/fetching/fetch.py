"""Fetching a data set into a folder, recording what came, and checking it again later."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from jfeval.errors import UserError
from jfeval.fetching.download import difference, download, hash_file
from jfeval.fetching.hub import Hub, offline
from jfeval.fetching.lock import LOCK_FILE, UNPINNED, DataFile, DataSet, read_lock, write_lock

log = logging.getLogger(__name__)

State: TypeAlias = Literal["ok", "missing", "differs", "unpinned"]


def fetch(wanted: DataSet, folder: Path, *, hub: Hub | None = None, say: Callable[[str], None] = log.info) -> DataSet:
    """Get every file of a data set that a folder lacks, check all of them, and record revision, sizes and hashes beside them.

    Files that are there already, placed by hand or fetched before, are checked and kept. Stopped, the same call goes on.

    Args:
        wanted: The data set, pinned as far as it is known.
        folder: Where it goes; made.
        hub: The hub; None for Hugging Face's.
        say: Tells what happens, line by line.

    Returns:
        The data set as recorded, every file with its sha256.

    Raises:
        UserError: There is no network, a file differs from what is recorded, the disk has no room, or the folder holds another data set.
    """
    hub = hub or Hub()
    known = _known(wanted, read_lock(folder))
    if known.hub and not known.files:
        _need_network(known, folder, "the list of files")
        commit, files = hub.listing(known.hub, known.revision, known.patterns)
        known = replace(known, revision=commit, files=files)
    missing = [path for path in known.files if not (folder / path).is_file()]
    say(f"{known.name}: {known.about}. Licence: {known.licence}. {known.page}")
    say(f"{len(known.files)} files, {size_words(known.size)}; {len(missing)} to fetch into {folder}")
    if missing:
        _need_network(known, folder, ", ".join(missing[:3]))
        folder.mkdir(parents=True, exist_ok=True)
        _need_room(known, missing, folder)
    for path, file in known.files.items():
        if path in missing:
            say(f"fetching {path} ({size_words(file.bytes)})")
        found = _get(known, path, folder, hub) if path in missing else _checked(file, path, folder)
        known = replace(known, files={**known.files, path: found})
        write_lock(folder, known)
    news = sum(wanted.files.get(path, DataFile()).sha256 == UNPINNED for path in known.files)
    if news or wanted.revision == UNPINNED:
        say(f"{news} of {len(known.files)} files were unpinned; their sha256, and the revision ({known.revision}), are recorded in")
        say(f"{folder / LOCK_FILE}: keep it, and the same data is had again with --lock")
    if known.by_hand:
        say(f"By hand: {known.by_hand}")
    return known


def verify(known: DataSet, folder: Path) -> dict[str, State]:
    """Compare a folder's files with a lock, each by size and sha256.

    Raises:
        UserError: The lock names no file.
    """
    if not known.files:
        raise UserError(f"nothing is recorded of {known.name} yet; `jfeval data fetch {known.name}` gets and records it")
    states: dict[str, State] = {}
    for path, file in known.files.items():
        if not (folder / path).is_file():
            states[path] = "missing"
        elif difference(file, hash_file(folder / path)):
            states[path] = "differs"
        else:
            states[path] = "unpinned" if file.sha256 == UNPINNED and not file.md5 else "ok"
    return states


def size_words(size: int | None) -> str:
    """Write a size as people read it."""
    return "size unknown" if size is None else f"{size / 1e6:,.1f} MB"


def _known(wanted: DataSet, recorded: DataSet | None) -> DataSet:
    """Join what is pinned with what the folder recorded.

    Raises:
        UserError: They contradict each other.
    """
    if recorded is None:
        return wanted
    problem = ""
    if recorded.name != wanted.name or recorded.hub != wanted.hub:
        problem = f"it holds {recorded.name} of {recorded.hub or recorded.page}"
    elif UNPINNED not in (wanted.revision, recorded.revision) and wanted.revision != recorded.revision:
        problem = f"it was fetched at revision {recorded.revision}, and {wanted.revision} is wanted"
    else:
        for path, file in wanted.files.items():
            other = recorded.files.get(path, file)
            if UNPINNED not in (file.sha256, other.sha256) and file.sha256 != other.sha256:
                problem = f"{path} was recorded with sha256 {other.sha256}, and {file.sha256} is wanted"
    if problem:
        raise UserError(f"this folder's {LOCK_FILE} says that {problem}; fetch into another folder with --out")
    return replace(wanted, revision=recorded.revision, files={**wanted.files, **recorded.files})


def _get(known: DataSet, path: str, folder: Path, hub: Hub) -> DataFile:
    file = known.files[path]
    if file.url:
        return download(file, folder / path)
    hub.download(known.hub, known.revision, path, folder)
    return _checked(file, path, folder)


def _checked(file: DataFile, path: str, folder: Path) -> DataFile:
    found = hash_file(folder / path)
    if problem := difference(file, found):
        raise UserError(f"{folder / path} is not the recorded file: {problem}. Delete it, and the same command gets it again")
    return replace(file, sha256=found.sha256, bytes=found.bytes)


def _need_network(known: DataSet, folder: Path, what: str) -> None:
    if offline():
        raise UserError(
            f"HF_HUB_OFFLINE is set, and {folder} lacks {what} of {known.name}; unset it, or copy the folder from a machine that fetched it"
        )


def _need_room(known: DataSet, missing: list[str], folder: Path) -> None:
    need, free = sum(known.files[path].bytes or 0 for path in missing), shutil.disk_usage(folder).free
    if need > free:
        raise UserError(
            f"{known.name} needs {size_words(need)} more, and {folder} has {size_words(free)} free; name another place with --out"
        )
