"""What one part of a recipe is given, and how its settings are compared."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jfeval.errors import unknown
from jfeval.models.training.ranks import ALONE, Ranks
from jfeval.settings import affects_result

ADDED = {"added": True}
"""Metadata of settings that came later: at the default they do what was done before they existed, so finished parts stay valid."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where one part of a recipe reads and writes.

    A kind of part is a function ``(settings, part) -> results``: it takes its own settings dataclass and this, writes its result into
    ``part.folder``, and returns the numbers it measured, or texts, to be stored beside it.
    """

    name: str
    folder: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Role to folder of an earlier, finished part."""
    hash: str = ""
    """Identifies the settings and everything the inputs were made from; checkpoints carry it."""
    prepare: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """World name to a function that writes its data into a folder."""
    evaluate: Callable[[Any, str, int], Mapping[str, float]] | None = None
    """Scores a live pipeline; called with it, the part's name and the updates done, where a stage evaluates itself."""
    ranks: Ranks = ALONE
    """The processes that make it together."""


def coerce(owner: object, name: str, cls: type) -> None:
    """Turn the mappings that YAML gives for a field of a frozen dataclass into instances of ``cls``, in place, before it is used.

    Raises:
        UserError: A mapping has a key that the class does not have; names the nearest.
    """
    names = {item.name for item in dataclasses.fields(cls)}
    built = []
    for value in getattr(owner, name):
        if isinstance(value, Mapping):
            for key in value:
                if key not in names:
                    raise unknown(f"key in {name}", str(key), names)
            value = cls(**value)
        built.append(value)
    object.__setattr__(owner, name, tuple(built))


def flatten(settings: object, prefix: str = "") -> dict[str, Any]:
    """Return the settings that affect the result as dotted key to plain value."""
    flat: dict[str, Any] = {}
    if not dataclasses.is_dataclass(settings):
        raise TypeError(f"settings must be a dataclass, got {type(settings).__name__}")
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if affects_result(item) and not (item.metadata.get("added") and _plain(value) == _plain(item.default)):
            if dataclasses.is_dataclass(value):
                flat.update(flatten(value, f"{prefix}{item.name}."))
            else:
                flat[f"{prefix}{item.name}"] = _plain(value)
    return flat


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Turn tuples and dataclasses inside containers into JSON's own types, so that stored and present settings compare equal."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return flatten(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value
