"""The Hugging Face hub as a place that data sets come from: what a revision holds, and its files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from jfeval.errors import UserError
from jfeval.fetching.lock import UNPINNED, DataFile, check_path

_TRUE = {"1", "on", "true", "yes"}


def offline() -> bool:
    """Tell whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A hub of repositories."""

    endpoint: str | None = None
    """Its address; None for the usual one."""

    def listing(self, repository: str, revision: str, patterns: tuple[str, ...]) -> tuple[str, Mapping[str, DataFile]]:
        """Return the commit that a revision stands for, and those of its files that match a pattern, with what the hub says of them.

        Args:
            repository: ``owner/name`` of a data set.
            revision: A commit, or ``unpinned`` for the newest.
            patterns: Shell patterns of paths.

        Raises:
            UserError: The hub cannot be reached or has no such thing, or no file matches.
        """
        from huggingface_hub import HfApi

        wanted = None if revision == UNPINNED else revision
        with _explained(f"list {repository}"):
            found = HfApi(endpoint=self.endpoint).dataset_info(repository, revision=wanted, files_metadata=True)
        files = {}
        for one in found.siblings or []:
            if any(fnmatch(one.rfilename, pattern) for pattern in patterns):
                path = check_path(one.rfilename, where=f"{repository} on the hub")
                files[path] = DataFile(sha256=one.lfs.sha256 if one.lfs else UNPINNED, bytes=one.size)
        if not files or not found.sha:
            raise UserError(f"{repository} at {found.sha} holds no file that matches {', '.join(patterns)}; its publisher has moved them")
        return found.sha, files

    def download(self, repository: str, revision: str, path: str, folder: Path) -> None:
        """Fetch one file into a folder, under its path in the repository; what an interrupted call left is gone on with.

        Raises:
            UserError: It cannot be had.
        """
        from huggingface_hub import hf_hub_download

        with _explained(f"get {path} of {repository} at {revision}"):
            hf_hub_download(repository, path, repo_type="dataset", revision=revision, local_dir=folder, endpoint=self.endpoint)


class _explained:  # noqa: N801  used as a verb
    """Turns the hub's errors into one that says what to do."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        if isinstance(error, (HfHubHTTPError, HFValidationError, OSError, ValueError)) or type(error).__module__.startswith("httpx"):
            reason = str(error).split("\n", 1)[0][:300]
            raise UserError(f"cannot {self.what} on the hub: {reason}. Check the network, and access to the data set") from error
