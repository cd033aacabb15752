"""Settings of a checkpoint's JSON files, read so that damage ends in an error that names file and key."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from jfeval.errors import UserError

T = TypeVar("T")
ANY = -math.inf
"""`read_setting`'s ``least`` for whole numbers that may be negative."""


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: The file cannot be read, is not JSON or holds something else; names it.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON; copy or download it again: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} holds no JSON object; copy or download it again")
    return found


def read_setting(values: Mapping[str, Any], key: str, default: T, where: object, *, least: float = 1) -> T:
    """Return a setting of a file, checked to be of its default's type.

    Args:
        values: What the file holds.
        key: The setting.
        default: Its value where the file does not name it.
        where: File or section, for the error message.
        least: Smallest whole number that is allowed; other numbers must be finite and above 0.

    Raises:
        UserError: It is of another type or out of range; names section, key and value.
    """
    value: Any = values.get(key, default)
    kind = type(default)
    if kind in (bool, str):
        fits, meaning = isinstance(value, kind), "true or false" if kind is bool else "text"
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        meaning = "a whole number" if least == ANY else f"a whole number of at least {least}"
    else:
        fits, meaning = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf, "a finite number above 0"
    if not fits:
        raise UserError(f"{where} {key} must be {meaning}, not {value!r}")
    return values.get(key, default)


def refuse_others(values: Mapping[str, Any], needed: Mapping[str, Any], where: object) -> None:
    """Refuse settings that ask for something that this model does not do; what is not named, or null, is well.

    Raises:
        UserError: Names section, key, value and what is needed.
    """
    for key, value in needed.items():
        if values.get(key) not in (None, value):
            raise UserError(f"{where} has {key} = {values[key]!r}; JanusFlow needs {value}")


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Put a file's name before what is wrong in it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
