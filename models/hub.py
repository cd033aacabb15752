"""From what a person names, a folder or a Hugging Face hub id, to a folder on this machine."""

import hashlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from jfeval.errors import UserError

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
_HASHED = {".safetensors", ".bin", ".json", ".jinja", ".txt", ".model"}
_TRUE = {"1", "on", "true", "yes"}

Fetch = Callable[[str, str, bool], Path]
"""Takes a hub id at a commit to this machine, or with True finds it there, and returns its folder."""


def fetch_weights(name: str, revision: str, offline: bool) -> Path:
    """Fetch small files and weights: safetensors, or PyTorch's files where none of these lies beside config.json."""
    from huggingface_hub import snapshot_download

    def fetch(weights: str) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*_SMALL_FILES, weights], local_files_only=offline))

    folder = fetch("*.safetensors")
    return folder if any(folder.glob("*.safetensors")) else fetch("*.bin")


def local_folder(
    source: str | Path, revision: str = "", *, form: str = "a folder with config.json and weights", fetch: Fetch = fetch_weights
) -> Path:
    """Return the folder of a checkpoint, downloading it first where ``source`` is a hub id.

    A folder wins over a hub id of the same spelling. A hub id needs the full commit it stands for, so that the same name means the same
    weights next year. With ``HF_HUB_OFFLINE=1`` only what an earlier call downloaded is used.

    Args:
        source: A folder, or ``owner/name`` on the Hugging Face hub.
        revision: 40 hexadecimal digits, the commit to take; for hub ids only.
        form: What such a folder holds, for the error message.
        fetch: Downloads a hub id.

    Raises:
        UserError: Neither a folder nor a hub id; the revision is missing or no commit; the download failed.
    """
    path = Path(source)
    if path.is_dir():
        if revision:
            raise UserError(f"{path} is a folder, which has no revision; leave the revision out, or name a hub id")
        return path
    name = str(source)
    if not _HUB_ID.fullmatch(name):
        raise UserError(f"{name} is no folder; expected {form}, or a hub id OWNER/NAME with its revision")
    if not _COMMIT.fullmatch(revision):
        given = f"{revision!r} is no commit" if revision else f"there is no folder {name}, and as a hub id it needs a revision"
        raise UserError(f"{given}: give the 40 hexadecimal digits listed at https://huggingface.co/{name}/commits")
    return _fetched(name, revision, fetch)


def content_hash(path: Path) -> str:
    """Return the sha256 over every weight, configuration and tokenizer file of a checkpoint folder, names included."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.suffix in _HASHED and p.is_file()):
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _fetched(name: str, revision: str, fetch: Fetch) -> Path:
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE
    try:
        return fetch(name, revision, offline)
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError, AttributeError) as error:  # the last from an unknown pipeline's name
        hint = "HF_HUB_OFFLINE is set: unset it, or download the revision first" if offline else "check name, revision, access and network"
        raise UserError(f"cannot get {name} at {revision} from the Hugging Face hub; {hint}. {str(error)[:300]}") from error
