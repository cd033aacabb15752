"""GenEval's metadata rows: what a picture must and must not show, read and checked.

A row is one JSON object per line, in the published form::

    {"tag": "position", "include": [{"class": "tv", "count": 1}, {"class": "apple", "count": 1, "position": ["above", 0]}],
     "prompt": "a photo of an apple above a tv"}

Source: djghosh13/geneval @ af4902f24d3c, prompts/evaluation_metadata.jsonl and prompts/create_prompts.py.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from jfeval.benchmarks.scorers.colour import COLOURS, Colour
from jfeval.benchmarks.scorers.relations import RELATIONS, Relation
from jfeval.errors import UserError, unknown
from jfeval.schema import Json, JsonObject

Tag: TypeAlias = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
TAGS: tuple[Tag, ...] = get_args(Tag)
"""The six tasks, in the order of the published file."""

METADATA_FILE = "evaluation_metadata.jsonl"
CLASSES_FILE = "object_names.txt"

_MAX_COUNT = 1000
_MAX_PROMPT = 2000
_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Include:
    """Objects that must be there."""

    name: str
    """The class."""
    count: int
    """At least this many, 1 or more."""
    color: Colour | None = None
    position: tuple[Relation, int] | None = None
    """Where these objects lie, and the index of the earlier item that they are compared with."""


@dataclass(frozen=True, kw_only=True)
class Exclude:
    """Objects that must be fewer."""

    name: str
    count: int
    """Fewer than this many, 1 or more."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt with what its picture must show."""

    tag: Tag
    prompt: str
    include: tuple[Include, ...]
    exclude: tuple[Exclude, ...] = ()


def parse_row(data: object, *, where: str, classes: Collection[str] | None = None) -> Row:
    """Check one metadata object.

    Args:
        data: What the JSON text held.
        where: File and line, for messages.
        classes: Class names that may occur; None accepts any.

    Raises:
        UserError: Names the place, the field, what stands there and what may.
    """
    row = _object(data, where, "row", required=("tag", "include", "prompt"), optional=("exclude",))
    include = [_include(item, index, where, classes) for index, item in enumerate(_items(row["include"], where, "include"))]
    if not include:
        raise _wrong(where, "include", row["include"], "at least one object")
    exclude = [_exclude(item, index, where, classes) for index, item in enumerate(_items(row.get("exclude", []), where, "exclude"))]
    tag = cast(Tag, _one_of(row["tag"], where, "tag", TAGS))
    return Row(tag=tag, prompt=_prompt(row["prompt"], where), include=tuple(include), exclude=tuple(exclude))


def read_rows(folder: Path) -> tuple[list[JsonObject], list[Row]]:
    """Read the official data folder: every row as published, and checked.

    Line k (from 0) is row k, whose images lie in folder ``{k:05d}`` in the official layout.

    Raises:
        UserError: A file is missing or not text, or a row is malformed; names file, line and field.
    """
    classes = read_classes(folder / CLASSES_FILE)
    path = folder / METADATA_FILE
    lines = _text(path).removesuffix("\n").split("\n")
    published: list[JsonObject] = []
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not a JSON object ({error}); each line holds one metadata row") from error
        rows.append(parse_row(data, where=where, classes=classes))
        published.append(data)
    return published, rows


def read_classes(path: Path) -> tuple[str, ...]:
    """Read the class names, one a line; a name's line is the detector's label.

    Raises:
        UserError: The file is missing, not text, or names a class twice or not at all.
    """
    names = tuple(line.strip() for line in _text(path).removesuffix("\n").split("\n"))
    for number, name in enumerate(names, start=1):
        if not name or name in names[: number - 1]:
            raise UserError(f"{path}, line {number}: {'class named twice: ' + repr(name) if name else 'empty line'}; one class a line")
    return names


def _include(data: object, index: int, where: str, classes: Collection[str] | None) -> Include:
    field = f"include[{index}]"
    item = _object(data, where, field, required=("class", "count"), optional=("color", "position"))
    color = cast(Colour, _one_of(item["color"], where, f"{field}.color", COLOURS)) if "color" in item else None
    position = _position(item["position"], index, where, f"{field}.position") if "position" in item else None
    return Include(
        name=_class(item["class"], where, f"{field}.class", classes),
        count=_count(item["count"], where, f"{field}.count"),
        color=color,
        position=position,
    )


def _exclude(data: object, index: int, where: str, classes: Collection[str] | None) -> Exclude:
    field = f"exclude[{index}]"
    item = _object(data, where, field, required=("class", "count"))
    name = _class(item["class"], where, f"{field}.class", classes)
    return Exclude(name=name, count=_count(item["count"], where, f"{field}.count"))


def _position(value: object, index: int, where: str, field: str) -> tuple[Relation, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(where, field, value, "[relation, index of an earlier include item]")
    relation = cast(Relation, _one_of(value[0], where, f"{field}[0]", RELATIONS))
    target = value[1]
    if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < index:
        allowed = f"an index from 0 to {index - 1}" if index else "no position: the first item has nothing before it"
        raise _wrong(where, f"{field}[1]", target, allowed)
    return relation, target


def _object(data: object, where: str, field: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Mapping[str, Json]:
    if not isinstance(data, dict):
        raise _wrong(where, field, data, f"an object with {', '.join(required)}")
    for key in data:
        if key not in required + optional:
            raise UserError(f"{where}, field {field}: {unknown('key', _shown(key), required + optional)}")
    for key in required:
        if key not in data:
            raise UserError(f"{where}, field {field}: key {key!r} is missing; needed: {', '.join(required)}")
    return data


def _items(value: object, where: str, field: str) -> list[Json]:
    if not isinstance(value, list):
        raise _wrong(where, field, value, "a list of objects")
    return value


def _one_of(value: object, where: str, field: str, allowed: Collection[str]) -> str:
    if not isinstance(value, str):
        raise _wrong(where, field, value, f"one of {', '.join(allowed)}")
    if value not in allowed:
        raise UserError(f"{where}, field {field}: {unknown('value', _shown(value), allowed)}")
    return value


def _class(value: object, where: str, field: str, classes: Collection[str] | None) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, field, value, "a class name")
    if classes is not None and value not in classes:
        raise UserError(f"{where}, field {field}: {unknown('class', _shown(value), classes)}")
    return value


def _count(value: object, where: str, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_COUNT:
        raise _wrong(where, field, value, f"a whole number from 1 to {_MAX_COUNT}")
    return value


def _prompt(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_PROMPT:
        raise _wrong(where, "prompt", value, f"text of 1 to {_MAX_PROMPT} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(where, "prompt", ascii(value), "text without unpaired surrogates")
    return value


def _wrong(where: str, field: str, value: object, allowed: str) -> UserError:
    return UserError(f"{where}, field {field}: found {_shown(value)}; allowed: {allowed}")


def _shown(value: object) -> str:
    """Show a value from a file: bounded, and free of line breaks and unpaired surrogates."""
    if isinstance(value, str):
        text = value if value.isprintable() else ascii(value)[1:-1]
    elif isinstance(value, (bool, float)) or value is None:
        text = json.dumps(value)
    elif isinstance(value, int):
        text = str(value) if abs(value) < 10**_SHOWN else "a very large number"
    else:
        text = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; --data names a folder with {METADATA_FILE} and {CLASSES_FILE} (folder prompts of djghosh13/geneval; "
            "the class names lie in its folder evaluation)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from error
