"""Published weights inside a pickle, read without running it: tensors as they are, metadata as plain values, every other object hollow."""

import hashlib
import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from jfeval.errors import UserError

_LEGACY_HEADS = 3
"""Pickles before the object in torch's old form. Source: torch/serialization.py, _legacy_save: magic number, protocol, system."""
_MOST_NAMES = 1000


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file of weights holds."""

    state: Mapping[str, Tensor]
    """Tensors by name, on the processor."""
    meta: Mapping[str, Any]
    """The file's own words about itself; untrusted, and empty where there are none."""
    sha256: str


class _Hollow:
    """Stands for an object of a class that is not loaded; takes whatever it is built from and forgets it."""

    def __new__(cls, *_: object, **__: object) -> "_Hollow":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pth`` file of mmdetection, or any that holds tensors by name, on the top level or under ``state_dict``.

    Nothing that the pickle names is imported or called but what torch itself knows to be harmless.

    Raises:
        UserError: There is no such file, it is no checkpoint, it is damaged, or it cannot be read without running it.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing")
    try:
        with torch.serialization.safe_globals([(_Hollow, name) for name in _names(path)]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"{path} is no checkpoint that can be read without running it: {_reason(error)}") from error
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"{path} does not hold tensors by name")
    meta = found.get("meta") if state is not found else None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(state=state, meta=meta if isinstance(meta, dict) else {}, sha256=digest)


def _reason(error: Exception) -> str:
    """Return the line of torch's long message that says what was found."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return next((line for line in lines if "WeightsUnpickler error" in line), lines[0])[:200]


def _names(path: Path) -> list[str]:
    """List what the pickle wants to import, by looking through its codes."""
    with _object_pickle(path) as file:
        codes = pickletools.genops(file)
        wanted = [str(argument).split(" ", 1) for code, argument, _ in codes if code.name == "GLOBAL"]
    names = {f"{module}.{name}" for module, name in wanted}
    # torch writes some names as Python 2 had them, and reads some of those as today's
    names |= {".".join(NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))) for module, name in wanted}
    if len(names) > _MOST_NAMES:
        raise ValueError(f"it names {len(names)} things to import")
    return sorted(names)


@contextmanager
def _object_pickle(path: Path) -> Iterator[IO[bytes]]:
    """Open the file at the pickle of its object, in torch's present form (an archive) or the old one."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inner = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            if inner is None:
                raise ValueError("it is an archive without a pickle")
            with archive.open(inner) as file:
                yield file
        return
    with path.open("rb") as file:
        for _ in range(_LEGACY_HEADS):
            for _code in pickletools.genops(file):
                pass
        yield file
