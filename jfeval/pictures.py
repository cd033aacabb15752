"""Encoded images that are read when they are asked for, so that a list of questions does not hold thousands of files in memory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, overload

from jfeval.schema import JsonObject

MAX_PIXELS = 64_000_000
"""A larger image is not read, wherever it comes from: a small file can claim any size."""


def identity_of_images(files: Iterable[tuple[int, int, Path]]) -> JsonObject:
    """Return a hash of ready images' contents, each with its prompt's row and its place there; names do not matter.

    It reads every file: who is asked for it again keeps it.

    Raises:
        OSError: A file cannot be read.
    """
    total, count = hashlib.sha256(), 0
    for row, index, file in files:
        with file.open("rb") as stream:
            total.update(f"{row} {index} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        count += 1
    return {"images": count, "sha256": total.hexdigest()}


class Pictures(Sequence[bytes]):
    """The encoded images (PNG, JPEG, ...) of one question, each read anew whenever it is looked at.

    Args:
        readers: One function per image that returns the file's bytes.
    """

    __slots__ = ("_readers",)

    def __init__(self, *readers: Callable[[], bytes]) -> None:
        self._readers = readers

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "Pictures": ...
    def __getitem__(self, index: int | slice) -> "bytes | Pictures":
        if isinstance(index, slice):
            return Pictures(*self._readers[index])
        return self._readers[index]()

    def __iter__(self) -> Iterator[bytes]:
        for reader in self._readers:
            yield reader()

    def __len__(self) -> int:
        return len(self._readers)

    def __deepcopy__(self, memo: dict) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(self._readers)
