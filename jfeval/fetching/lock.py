"""Lock files: which files make a data set, where they come from, and what they must hash to.

jfeval ships what is known of each data set; what is not known is ``unpinned``. Fetching records the rest beside the data, in the same form,
so that the folder can be checked at any time, and copied to machines without a network::

    data/official/pope/data.lock.json

A recorded file, given to ``jfeval data fetch NAME --lock FILE``, gets the same bytes elsewhere or says what differs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from jfeval.errors import UserError
from jfeval.files import write_atomically

UNPINNED = "unpinned"
LOCK_FILE = "data.lock.json"
FETCHED = Path("data") / "official"
"""Where data sets are stored, each in a folder of its name, unless another place is named."""

_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}
_URL = re.compile(r"https?://[^\s\"'<>]+")
_LONGEST = 2000


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a data set."""

    url: str = ""
    """Where it is; empty for a file of a hub's repository."""
    sha256: str = UNPINNED
    bytes: int | None = None
    """Its size; None where that is not known."""
    md5: str = ""
    """What the publisher says it hashes to, where that is all there is."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set, as far as it is known."""

    name: str
    about: str
    """What it is, in a line."""
    licence: str
    page: str
    """Where its publisher describes it."""
    revision: str = UNPINNED
    """Commit of the repository it is from."""
    hub: str = ""
    """Repository of data on the Hugging Face hub, ``owner/name``; empty where files have addresses of their own."""
    patterns: tuple[str, ...] = ()
    """Which files of the repository belong to it."""
    files: Mapping[str, DataFile] = field(default_factory=dict)
    """By path in the data folder; of a hub's repository none until it was fetched once."""
    by_hand: str = ""
    """What cannot be fetched and must be placed by hand."""

    @property
    def pinned(self) -> bool:
        """True where every file is known by its sha256."""
        return bool(self.files) and all(file.sha256 != UNPINNED for file in self.files.values())

    @property
    def size(self) -> int | None:
        """All files' bytes; None where some are not known."""
        sizes = [file.bytes for file in self.files.values()]
        return None if not sizes or None in sizes else sum(size for size in sizes if size)


def fetched_folder(name: str) -> Path:
    """Return where ``jfeval data fetch NAME`` stores a data set."""
    return FETCHED / name


def read_lock(folder: Path) -> DataSet | None:
    """Return what was recorded when a folder was fetched; None for a folder that was not.

    Raises:
        UserError: There is a lock file, and it is malformed.
    """
    path = folder / LOCK_FILE
    return load_lock(path) if path.is_file() else None


def load_lock(path: Path) -> DataSet:
    """Read one data set's lock file.

    Raises:
        UserError: It cannot be read or is malformed; names the field.
    """
    try:
        return parse_data_set(json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no lock file of a data set: {error}") from error


def write_lock(folder: Path, data_set: DataSet) -> None:
    """Record what a folder holds."""
    write_atomically(folder / LOCK_FILE, (json.dumps(asdict(data_set), indent=2, ensure_ascii=False) + "\n").encode())


def parse_data_set(data: Any, *, where: str) -> DataSet:  # noqa: ANN401  whatever the JSON text held
    """Check one data set as JSON has it; nothing in it can reach outside the data folder.

    Raises:
        UserError: A field is missing, unknown or of another kind; names it.
    """
    values = _known(data, DataSet, where)
    files = values.pop("files", {})
    patterns = values.pop("patterns", [])
    if not isinstance(files, dict) or not isinstance(patterns, list):
        raise UserError(f"{where}: files must be an object, and patterns a list")
    for name in ("name", "about", "licence", "page"):
        if not values.get(name):
            raise UserError(f"{where}, field {name}: expected a text, found nothing")
    for name, value in [*values.items(), *(("patterns", pattern) for pattern in patterns)]:
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise UserError(f"{where}, field {name}: expected a text, found {str(value)[:60]!r}")
    parsed = {path: _file(path, file, where=f"{where}, file {str(path)[:80]}") for path, file in files.items()}
    return DataSet(patterns=tuple(patterns), files=parsed, **values)


def check_path(path: object, *, where: str) -> str:
    """Return a file's path inside a data folder.

    Raises:
        UserError: It leaves the folder, or is the lock file's.
    """
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not isinstance(path, str) or not parts or ".." in parts or path.startswith("/") or re.search(r"[\\\0:]", path) or path == LOCK_FILE:
        raise UserError(f"{where}: {str(path)[:80]!r} is no path inside a data folder")
    return path


def _file(path: object, data: Any, *, where: str) -> DataFile:  # noqa: ANN401
    check_path(path, where=where)
    values = _known(data, DataFile, where)
    size = values.get("bytes")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise UserError(f"{where}, field bytes: expected a whole number, found {str(size)[:40]!r}")
    for name, pattern in _HEX.items():
        value = values.get(name) or UNPINNED
        if value != UNPINNED and not (isinstance(value, str) and pattern.fullmatch(value)):
            raise UserError(f"{where}, field {name}: expected {name} in hexadecimal or {UNPINNED}, found {str(value)[:40]!r}")
    url = values.get("url") or ""
    if url and not (isinstance(url, str) and _URL.fullmatch(url)):
        raise UserError(f"{where}, field url: expected an http address, found {str(url)[:60]!r}")
    return DataFile(**values)


def _known(data: Any, kind: type, where: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected an object, found {str(data)[:60]!r}")
    allowed = {item.name for item in fields(kind)}
    if strange := sorted(str(key) for key in set(data) - allowed):
        raise UserError(f"{where}: unknown field {', '.join(strange)[:100]}; known: {', '.join(sorted(allowed))}")
    return dict(data)
