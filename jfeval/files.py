"""Writing files so that a killed process or a full disk leaves the old file or the new one, never half of either."""

import os
import re
import tempfile
from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")
_PART = re.compile(r"\..{1,32}-[a-z0-9_]{8}\.part")


def encodable(text: str) -> str:
    """Return text that can be stored: lone surrogates, which no encoding has bytes for, become U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def is_part(name: str) -> bool:
    """Tell whether a file name is one that `write_atomically` gives to a file it has not finished."""
    return _PART.fullmatch(name) is not None


def write_atomically(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Write a file under a temporary name beside it, flush it to disk, then rename it into place.

    Args:
        path: The file; its folder is made.
        data: All of its content.
        flush: Wait until the disk has it. Without, a power failure (not a killed process) may leave a file of wrong content, which is
            well where readers check content against a hash, and saves milliseconds a file.

    Raises:
        OSError: The folder cannot be written or the disk is full; the old file is untouched.
    """
    prefix = f".{path.name[:32]}-"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
