"""One file from one address: resumed where an earlier attempt stopped, bounded, and hashed on the way."""

import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from jfeval.errors import UserError
from jfeval.fetching.lock import UNPINNED, DataFile

log = logging.getLogger(__name__)

ATTEMPTS = 4
"""Tries in a row that may bring nothing before a download is given up."""
_BLOCK = 1 << 20
_TIMEOUT = 60.0
_SAY_EVERY = 10.0
_PARTIAL, _FROM_START, _NOT_SATISFIABLE = 206, 200, 416


class _Broken(Exception):  # noqa: N818
    """The connection ended before the file did."""


def download(file: DataFile, path: Path) -> DataFile:
    """Fetch a file; what an interrupted call left beside it (``NAME.part``) is gone on with.

    Args:
        file: Its address, and what is known of it.
        path: Where to put it; its folder is made.

    Returns:
        The file with its sha256 and size.

    Raises:
        UserError: The server does not give it, or gives other bytes than are known; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, mark = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.etag")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _go_on(file, part, mark)
            break
        except (_Broken, urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise UserError(f"{file.url}: the server says {error.code} {error.reason}") from error
            failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
            if failures == ATTEMPTS:
                raise UserError(
                    f"cannot get {file.url}: {error}. What has come is kept, and the same command goes on there; check the network, or "
                    f"place the file at {path} by hand"
                ) from error
            time.sleep(min(failures, 3))
    found = hash_file(part)
    if problem := difference(file, found):
        part.unlink()
        mark.unlink(missing_ok=True)
        raise UserError(f"{file.url} gave other bytes than are recorded: {problem}. The publisher has changed the file, or it was damaged")
    part.replace(path)
    mark.unlink(missing_ok=True)
    return DataFile(url=file.url, sha256=found.sha256, bytes=found.bytes, md5=file.md5)


def hash_file(path: Path) -> DataFile:
    """Return a file's size, sha256 and md5."""
    with path.open("rb") as handle:
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        while block := handle.read(_BLOCK):
            sha256.update(block)
            md5.update(block)
    return DataFile(sha256=sha256.hexdigest(), md5=md5.hexdigest(), bytes=path.stat().st_size)


def difference(wanted: DataFile, found: DataFile) -> str:
    """Say how a file differs from what is known of it; empty where it does not."""
    if wanted.bytes is not None and wanted.bytes != found.bytes:
        return f"{found.bytes} bytes instead of {wanted.bytes}"
    if wanted.sha256 not in (UNPINNED, found.sha256):
        return f"sha256 {found.sha256} instead of {wanted.sha256}"
    if wanted.md5 and wanted.md5 != found.md5:
        return f"md5 {found.md5} instead of {wanted.md5}"
    return ""


def _go_on(file: DataFile, part: Path, mark: Path) -> None:
    """Ask for what is missing and append it; the server's mark of the file's version guards against mixing two versions."""
    held = part.stat().st_size if part.exists() and mark.exists() else 0
    headers = {"User-Agent": "jfeval", "Accept-Encoding": "identity"}
    if held:
        headers |= {"Range": f"bytes={held}-", "If-Range": mark.read_text(encoding="utf-8")}
    request = urllib.request.Request(file.url, headers=headers)  # noqa: S310  the lock allows http and https alone
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != _NOT_SATISFIABLE:
            raise
        part.unlink()  # what is held is no beginning of what the server has
        raise _Broken("the part that was kept does not fit") from error
    with answer:
        start = held if answer.status == _PARTIAL else 0
        length = answer.headers.get("Content-Length")
        whole = start + int(length) if length and length.isdigit() else file.bytes
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if version and not version.startswith("W/"):
            mark.write_text(version, encoding="utf-8")
        else:
            mark.unlink(missing_ok=True)
        with part.open("ab" if start else "wb") as out:
            size = _copy(answer, out, start, whole, file)
    if whole is not None and size < whole:
        raise _Broken(f"the connection ended after {size} of {whole} bytes")


def _copy(answer: http.client.HTTPResponse, out: BinaryIO, size: int, whole: int | None, file: DataFile) -> int:
    said, most = time.monotonic(), file.bytes if file.bytes is not None else whole
    while block := answer.read(_BLOCK):
        out.write(block)
        size += len(block)
        if most is not None and size > most:
            raise UserError(f"{file.url} gives more than the {most} bytes that are recorded or announced")
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            log.info("%s: %.0f of %s MB", file.url.rpartition("/")[2], size / 1e6, "?" if whole is None else f"{whole / 1e6:.0f}")
    return size
